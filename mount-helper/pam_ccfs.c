/* SPDX-License-Identifier: MIT */
/*
 * pam_ccfs: gives a PAM session its user's ccfs.
 *
 * Knows PAM, and the requests to ccfsd; never a credential, nor a file in a mount: a system call on
 * one could hang the login.  The login never fails: every function here returns PAM_SUCCESS or, in
 * a kind of line where the module does nothing, PAM_IGNORE.
 */
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include <security/pam_ext.h>
#include <security/pam_modules.h>
#include <security/pam_modutil.h>

#include "control.h"
#include "mountinfo.h"
#include "options.h"

#define EXPORT __attribute__((visibility("default")))

#define DATA "ccfs_session"
#define VARIABLE "KRB5CCNAME"
#define SESSION_SIZE 24  /* a decimal number of 64 bits */
#define PATH_SIZE 64     /* /run/ccfs/UID.SESSION */
#define CCNAME_SIZE 192  /* KRB5CCNAME=TYPE:PATH with a path below the mount */

/*
 * The data of a PAM handle between the two calls.  It also shows that a second line of the same
 * module has nothing to do (su-l includes su).  `id` is empty where ccfsd gave no session.
 */
struct session {
    char id[SESSION_SIZE];
};

/* ccfsd's reply for a new session. */
struct reply {
    char id[SESSION_SIZE];
    char device[SESSION_SIZE];
    char path[PATH_SIZE];
    char ccache[SESSION_SIZE + 8];
    char imported[16];
};

/* One call of the module. */
struct call {
    pam_handle_t *pamh;
    struct ccfs_options options;
    const char *service;
    int64_t deadline;
};

static void free_session(pam_handle_t *pamh, void *data, int status)
{
    (void)pamh;
    (void)status;
    free(data);
}

/* Returns the session in the handle's data, NULL where none was opened. */
static const struct session *get_session(pam_handle_t *pamh)
{
    const void *data = NULL;

    if (pam_get_data(pamh, DATA, &data) != PAM_SUCCESS)
        return NULL;
    return data;
}

/* Puts a new session into the handle's data and returns it, NULL without memory. */
static struct session *new_session(pam_handle_t *pamh)
{
    struct session *session = calloc(1, sizeof(*session));

    if (session != NULL && pam_set_data(pamh, DATA, session, free_session) != PAM_SUCCESS) {
        free(session);
        session = NULL;
    }
    return session;
}

/* Returns an item of the handle, "" where it isn't set. */
static const char *get_item(pam_handle_t *pamh, int type)
{
    const void *value = NULL;

    if (pam_get_item(pamh, type, &value) != PAM_SUCCESS || value == NULL)
        return "";
    return value;
}

/* Returns true unless the service is one in which the module does nothing. */
static bool is_enabled(const struct call *call)
{
    if (!ccfs_options_skip(&call->options, call->service))
        return true;
    if (call->options.debug)
        pam_syslog(call->pamh, LOG_DEBUG, "nothing done in service %s", call->service);
    return false;
}

/* Parses the options and starts the deadline. */
static struct call begin_call(pam_handle_t *pamh, int argc, const char **argv)
{
    struct call call = {.pamh = pamh, .options = ccfs_options_parse(pamh, argc, argv)};

    call.service = get_item(pamh, PAM_SERVICE);
    call.deadline = ccfs_clock() + call.options.timeout;
    return call;
}

/* Returns the user who logs in, NULL for an unknown user or one below min_uid. */
static const struct passwd *find_user(const struct call *call)
{
    const char *name = get_item(call->pamh, PAM_USER);
    const struct passwd *user = *name != '\0' ? pam_modutil_getpwnam(call->pamh, name) : NULL;

    if (user == NULL) {
        pam_syslog(call->pamh, LOG_WARNING, "no such user: no ccfs for this session");
        return NULL;
    }
    if (user->pw_uid < call->options.min_uid) {
        if (call->options.debug)
            pam_syslog(call->pamh, LOG_DEBUG, "uid %ju is below min_uid", (uintmax_t)user->pw_uid);
        return NULL;
    }
    return user;
}

/* Returns true for a residual below CCFS_RUN: it is in a ccfs already. */
static bool is_in_ccfs(const char *residual)
{
    const char *path = strchr(residual, '/');

    return path != NULL && strncmp(path, CCFS_RUN "/", strlen(CCFS_RUN "/")) == 0;
}

/* Returns the ccache that an earlier module has left in the environment, NULL without one. */
static const char *login_residual(pam_handle_t *pamh)
{
    const char *residual = pam_getenv(pamh, VARIABLE);

    return residual == NULL || *residual == '\0' || is_in_ccfs(residual) ? NULL : residual;
}

/* Returns true if a residual is a file, which can be imported. */
static bool is_file(const char *residual)
{
    return *residual == '/' || strncmp(residual, "FILE:/", 6) == 0;
}

/* Returns the residual to import, NULL for none. */
static const char *import_residual(const struct call *call, const char *residual)
{
    if (residual == NULL || !is_file(residual) || strcmp(call->options.import, "never") == 0)
        return NULL;
    return residual;
}

/* Builds the request for a session. */
static void build_open_request(struct ccfs_request *request, const struct call *call,
                            const struct passwd *user, const char *import)
{
    int64_t left = call->deadline - ccfs_clock();

    ccfs_request_begin(request, "open");
    ccfs_request_add_number(request, "uid", user->pw_uid);
    ccfs_request_add_number(request, "gid", user->pw_gid);
    ccfs_request_add(request, "user", user->pw_name);
    ccfs_request_add(request, "scope", call->options.scope);
    ccfs_request_add(request, "import", call->options.import);
    if (import != NULL)
        ccfs_request_add(request, "ccache", import);
    ccfs_request_add(request, "service", call->service);
    /* ccfsd's refusal must arrive before the deadline of this call. */
    ccfs_request_add_number(request, "deadline", left > 0 ? (uintmax_t)left * 4 / 5 : 0);
}

/* Returns true if a text is a decimal number. */
static bool is_number(const char *text)
{
    return *text != '\0' && text[strspn(text, "0123456789")] == '\0';
}

/* Parses the reply; returns true if it has the session, the path and the device. */
static bool parse_open_reply(const char *text, struct reply *reply)
{
    memset(reply, 0, sizeof(*reply));
    if (!ccfs_reply_value(text, "session", reply->id, sizeof(reply->id)) ||
        !is_number(reply->id)) {
        reply->id[0] = '\0';
        return false;
    }
    (void)ccfs_reply_value(text, "ccache", reply->ccache, sizeof(reply->ccache));
    (void)ccfs_reply_value(text, "imported", reply->imported, sizeof(reply->imported));
    return ccfs_reply_value(text, "path", reply->path, sizeof(reply->path)) &&
           ccfs_reply_value(text, "device", reply->device, sizeof(reply->device));
}

/* Returns true if the mount has this session's path, and this process sees it there. */
static bool check_mount(const struct call *call, const struct passwd *user,
                        const struct reply *reply)
{
    bool own = strcmp(call->options.scope, "session") == 0;
    char path[PATH_SIZE];

    snprintf(path, sizeof(path), CCFS_RUN "/%ju%s%s", (uintmax_t)user->pw_uid, own ? "." : "",
             own ? reply->id : "");
    if (strcmp(path, reply->path) != 0) {
        pam_syslog(call->pamh, LOG_ERR, "ccfsd's reply has another path than %s", path);
        return false;
    }
    if (ccfs_is_mounted(path, reply->device))
        return true;
    if (errno != 0)
        pam_syslog(call->pamh, LOG_ERR, "cannot read the mount table: %m");
    else
        pam_syslog(call->pamh, LOG_WARNING, "the mount at %s is not visible here", path);
    return false;
}

/* Returns true if the login's ccache was imported, or there was none. */
static bool was_imported(const struct call *call, const struct reply *reply, const char *residual)
{
    if (residual == NULL || reply->ccache[0] != '\0' || strcmp(reply->imported, "default") == 0)
        return true;
    pam_syslog(call->pamh, LOG_INFO, "the ccache of the login was not imported: " VARIABLE " stays");
    return false;
}

/* Formats the variable; returns false if the reply has a ccache that isn't this session's. */
static bool format_variable(char *text, size_t size, bool dir, const struct reply *reply)
{
    const char *path = reply->path;
    char own[sizeof(reply->ccache)];

    snprintf(own, sizeof(own), "session-%s", reply->id);
    if (reply->ccache[0] == '\0' && dir)
        snprintf(text, size, VARIABLE "=DIR:%s/dir", path);
    else if (reply->ccache[0] == '\0')
        snprintf(text, size, VARIABLE "=FILE:%s/default/ccache", path);
    else if (strcmp(reply->ccache, own) != 0)
        return false;
    else if (dir)
        snprintf(text, size, VARIABLE "=DIR::%s/dir/tkt.%s", path, own);
    else
        snprintf(text, size, VARIABLE "=FILE:%s/caches/%s/ccache", path, own);
    return true;
}

/* Sets KRB5CCNAME in the session's environment. */
static void set_variable(const struct call *call, const struct reply *reply)
{
    char text[CCNAME_SIZE];

    if (!format_variable(text, sizeof(text), call->options.dir, reply)) {
        pam_syslog(call->pamh, LOG_ERR, "ccfsd's reply has a ccache that is not this session's");
        return;
    }
    if (pam_putenv(call->pamh, text) != PAM_SUCCESS)
        pam_syslog(call->pamh, LOG_ERR, "cannot set " VARIABLE);
    else if (call->options.debug)
        pam_syslog(call->pamh, LOG_DEBUG, "session %s: %s", reply->id, text);
}

/* Requests a session for a user from ccfsd, and stores its number in `session`. */
static void open_for(const struct call *call, const struct passwd *user, struct session *session)
{
    const char *residual = login_residual(call->pamh);
    struct ccfs_request request;
    struct reply reply;
    struct ccfs_error error;
    char text[CCFS_REPLY_SIZE];

    build_open_request(&request, call, user, import_residual(call, residual));
    if (!ccfs_ask(&request, call->deadline, text, &error)) {
        pam_syslog(call->pamh, LOG_WARNING, "no ccfs for this session: %s", error.text);
        return;
    }
    if (!parse_open_reply(text, &reply))
        pam_syslog(call->pamh, LOG_ERR, "no ccfs for this session: ccfsd's reply is malformed");
    memcpy(session->id, reply.id, sizeof(session->id));
    if (reply.device[0] != '\0' && check_mount(call, user, &reply) &&
        was_imported(call, &reply, residual))
        set_variable(call, &reply);
}

/* Opens the session, once for a handle. */
static void open_session(pam_handle_t *pamh, int argc, const char **argv)
{
    struct call call = begin_call(pamh, argc, argv);
    const struct passwd *user;
    struct session *session;

    if (!is_enabled(&call) || get_session(pamh) != NULL)
        return;
    user = find_user(&call);
    if (user == NULL)
        return;
    session = new_session(pamh);
    if (session == NULL)
        pam_syslog(pamh, LOG_CRIT, "no memory: no ccfs for this session");
    else
        open_for(&call, user, session);
}

/*
 * Tells ccfsd that a session has ended.
 *
 * ccfsd accepts that from root alone.  systemd closes the session of a unit with PAMName=, and run0
 * its own, as the user: ccfsd ends such a session when the process ends that has opened it.
 */
static void close_for(const struct call *call, const struct session *session)
{
    struct ccfs_request request;
    struct ccfs_error error;
    char text[CCFS_REPLY_SIZE];

    if (geteuid() != 0) {
        if (call->options.debug)
            pam_syslog(call->pamh, LOG_DEBUG, "session %s: ends with its process", session->id);
        return;
    }
    ccfs_request_begin(&request, "close");
    ccfs_request_add(&request, "session", session->id);
    if (!ccfs_ask(&request, call->deadline, text, &error))
        pam_syslog(call->pamh, LOG_WARNING, "session %s is not closed: %s", session->id, error.text);
    else if (call->options.debug)
        pam_syslog(call->pamh, LOG_DEBUG, "session %s: closed", session->id);
}

/* Closes the session, if one was opened. */
static void close_session(pam_handle_t *pamh, int argc, const char **argv)
{
    struct call call = begin_call(pamh, argc, argv);
    const struct session *session = get_session(pamh);

    if (session == NULL)
        return;
    if (session->id[0] != '\0')
        close_for(&call, session);
    pam_set_data(pamh, DATA, NULL, NULL);
}

EXPORT int pam_sm_open_session(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
    int saved_errno = errno;

    (void)flags;
    open_session(pamh, argc, argv);
    errno = saved_errno;
    return PAM_SUCCESS;
}

EXPORT int pam_sm_close_session(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
    int saved_errno = errno;

    (void)flags;
    close_session(pamh, argc, argv);
    errno = saved_errno;
    return PAM_SUCCESS;
}

/* In lines of other kinds, where it doesn't belong, the module does nothing. */
#define IGNORED(function)                                                               \
    EXPORT int function(pam_handle_t *pamh, int flags, int argc, const char **argv)     \
    {                                                                                   \
        (void)pamh, (void)flags, (void)argc, (void)argv;                                \
        return PAM_IGNORE;                                                              \
    }

IGNORED(pam_sm_authenticate)
IGNORED(pam_sm_setcred)
IGNORED(pam_sm_acct_mgmt)
IGNORED(pam_sm_chauthtok)
