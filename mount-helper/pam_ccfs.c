/*
 * pam_ccfs: a session of PAM has its user's ccfs.
 *
 * Knows PAM, and what ccfsd is asked; never a credential, nor anything in a mount: touching one
 * could hang the login.  Whatever happens, the login goes on: every function here returns
 * PAM_SUCCESS or, where it has no part at all, PAM_IGNORE.
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
#define PLACE_SIZE 64    /* /run/ccfs/UID.SESSION */
#define CCNAME_SIZE 192  /* a residual in there */

/*
 * What a handle remembers between the two calls, and by which it knows a second line of the same
 * module (su-l includes su).  `id` is empty where ccfsd gave no session.
 */
struct session {
    char id[SESSION_SIZE];
};

/* What ccfsd says of a new session. */
struct answer {
    char id[SESSION_SIZE];
    char device[SESSION_SIZE];
    char path[PLACE_SIZE];
    char ccache[SESSION_SIZE + 8];
    char imported[16];
};

/* One call: whom it is about, and until when. */
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

/* Returns what the handle remembers, NULL where no session was opened. */
static const struct session *remembered(pam_handle_t *pamh)
{
    const void *data = NULL;

    if (pam_get_data(pamh, DATA, &data) != PAM_SUCCESS)
        return NULL;
    return data;
}

/* Has the handle remember a session; returns it, NULL without memory. */
static struct session *remember(pam_handle_t *pamh)
{
    struct session *session = calloc(1, sizeof(*session));

    if (session != NULL && pam_set_data(pamh, DATA, session, free_session) != PAM_SUCCESS) {
        free(session);
        session = NULL;
    }
    return session;
}

static const char *item(pam_handle_t *pamh, int type)
{
    const void *value = NULL;

    if (pam_get_item(pamh, type, &value) != PAM_SUCCESS || value == NULL)
        return "";
    return value;
}

/* Returns whether this session is one of ours at all. */
static bool concerns_us(const struct call *call)
{
    if (!ccfs_options_skip(&call->options, call->service))
        return true;
    if (call->options.debug)
        pam_syslog(call->pamh, LOG_DEBUG, "nothing done in service %s", call->service);
    return false;
}

static struct call begin(pam_handle_t *pamh, int argc, const char **argv)
{
    struct call call = {.pamh = pamh, .options = ccfs_options_parse(pamh, argc, argv)};

    call.service = item(pamh, PAM_SERVICE);
    call.deadline = ccfs_clock() + call.options.timeout;
    return call;
}

/* Returns the user who logs in, NULL where there is none for whom anything is to be done. */
static const struct passwd *find_user(const struct call *call)
{
    const char *name = item(call->pamh, PAM_USER);
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

/* Returns whether a residual is a place of ours, so that nothing of anybody's is in it. */
static bool is_ours(const char *residual)
{
    const char *path = strchr(residual, '/');

    return path != NULL && strncmp(path, CCFS_RUN "/", strlen(CCFS_RUN "/")) == 0;
}

/* Returns the ccache that somebody before us has left in the environment, NULL without one. */
static const char *brought(pam_handle_t *pamh)
{
    const char *residual = pam_getenv(pamh, VARIABLE);

    return residual == NULL || *residual == '\0' || is_ours(residual) ? NULL : residual;
}

/* Returns whether a residual is a file, which can be imported. */
static bool is_file(const char *residual)
{
    return *residual == '/' || strncmp(residual, "FILE:/", 6) == 0;
}

/* Returns what to import, NULL where there is nothing or it is not wanted. */
static const char *to_import(const struct call *call, const char *residual)
{
    if (residual == NULL || !is_file(residual) || strcmp(call->options.import, "never") == 0)
        return NULL;
    return residual;
}

/* Words the request for a session. */
static void ask_for_session(struct ccfs_request *request, const struct call *call,
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
    /* Its "no" has to arrive before we stop listening. */
    ccfs_request_add_number(request, "deadline", left > 0 ? (uintmax_t)left * 4 / 5 : 0);
}

/* Returns whether a text is a number and nothing else. */
static bool is_number(const char *text)
{
    return *text != '\0' && text[strspn(text, "0123456789")] == '\0';
}

/* Takes the reply apart; returns whether it says which session, and what is mounted for it. */
static bool read_answer(const char *reply, struct answer *answer)
{
    memset(answer, 0, sizeof(*answer));
    if (!ccfs_reply_value(reply, "session", answer->id, sizeof(answer->id)) ||
        !is_number(answer->id)) {
        answer->id[0] = '\0';
        return false;
    }
    (void)ccfs_reply_value(reply, "ccache", answer->ccache, sizeof(answer->ccache));
    (void)ccfs_reply_value(reply, "imported", answer->imported, sizeof(answer->imported));
    return ccfs_reply_value(reply, "path", answer->path, sizeof(answer->path)) &&
           ccfs_reply_value(reply, "device", answer->device, sizeof(answer->device));
}

/* Returns whether the mount is where this session's has to be, and this process sees it there. */
static bool check_mount(const struct call *call, const struct passwd *user,
                        const struct answer *answer)
{
    bool own = strcmp(call->options.scope, "session") == 0;
    char place[PLACE_SIZE];

    snprintf(place, sizeof(place), CCFS_RUN "/%ju%s%s", (uintmax_t)user->pw_uid, own ? "." : "",
             own ? answer->id : "");
    if (strcmp(place, answer->path) != 0) {
        pam_syslog(call->pamh, LOG_ERR, "ccfsd names another place than %s", place);
        return false;
    }
    if (ccfs_is_mounted(place, answer->device))
        return true;
    if (errno != 0)
        pam_syslog(call->pamh, LOG_ERR, "cannot see what is mounted: %m");
    else
        pam_syslog(call->pamh, LOG_WARNING, "the mount at %s is not seen here", place);
    return false;
}

/* Returns whether what the login brought is in the mount now; without anything brought it is. */
static bool has_moved(const struct call *call, const struct answer *answer, const char *residual)
{
    if (residual == NULL || answer->ccache[0] != '\0' || strcmp(answer->imported, "default") == 0)
        return true;
    pam_syslog(call->pamh, LOG_INFO, "the ccache of the login stays, and " VARIABLE " too");
    return false;
}

/* Words the variable; returns whether ccfsd names no other ccache than it may. */
static bool word_variable(char *text, size_t size, bool dir, const struct answer *answer)
{
    const char *path = answer->path;
    char own[sizeof(answer->ccache)];

    snprintf(own, sizeof(own), "session-%s", answer->id);
    if (answer->ccache[0] == '\0' && dir)
        snprintf(text, size, VARIABLE "=DIR:%s/dir", path);
    else if (answer->ccache[0] == '\0')
        snprintf(text, size, VARIABLE "=FILE:%s/default/ccache", path);
    else if (strcmp(answer->ccache, own) != 0)
        return false;
    else if (dir)
        snprintf(text, size, VARIABLE "=DIR::%s/dir/tkt.%s", path, own);
    else
        snprintf(text, size, VARIABLE "=FILE:%s/caches/%s/ccache", path, own);
    return true;
}

/* Gives the session its variable. */
static void set_variable(const struct call *call, const struct answer *answer)
{
    char text[CCNAME_SIZE];

    if (!word_variable(text, sizeof(text), call->options.dir, answer)) {
        pam_syslog(call->pamh, LOG_ERR, "ccfsd names a ccache that is not this session's");
        return;
    }
    if (pam_putenv(call->pamh, text) != PAM_SUCCESS)
        pam_syslog(call->pamh, LOG_ERR, "cannot set " VARIABLE);
    else if (call->options.debug)
        pam_syslog(call->pamh, LOG_DEBUG, "session %s: %s", answer->id, text);
}

/* Asks ccfsd for the session of a user; `session` remembers which it is. */
static void open_for(const struct call *call, const struct passwd *user, struct session *session)
{
    const char *residual = brought(call->pamh);
    struct ccfs_request request;
    struct answer answer;
    struct ccfs_why why;
    char reply[CCFS_REPLY_SIZE];

    ask_for_session(&request, call, user, to_import(call, residual));
    if (!ccfs_ask(&request, call->deadline, reply, &why)) {
        pam_syslog(call->pamh, LOG_WARNING, "no ccfs for this session: %s", why.text);
        return;
    }
    if (!read_answer(reply, &answer))
        pam_syslog(call->pamh, LOG_ERR, "no ccfs for this session: ccfsd's answer makes no sense");
    memcpy(session->id, answer.id, sizeof(session->id));
    if (answer.device[0] != '\0' && check_mount(call, user, &answer) &&
        has_moved(call, &answer, residual))
        set_variable(call, &answer);
}

/* Opens the session, once a handle. */
static void open_session(pam_handle_t *pamh, int argc, const char **argv)
{
    struct call call = begin(pamh, argc, argv);
    const struct passwd *user;
    struct session *session;

    if (!concerns_us(&call) || remembered(pamh) != NULL)
        return;
    user = find_user(&call);
    if (user == NULL)
        return;
    session = remember(pamh);
    if (session == NULL)
        pam_syslog(pamh, LOG_CRIT, "no memory: no ccfs for this session");
    else
        open_for(&call, user, session);
}

/* Tells ccfsd that a session has ended.
 *
 * It listens to root alone. systemd closes the session of a unit with PAMName=, and run0 its own, as
 * the user: ccfsd sees the end of such a session by the end of the process that has opened it. */
static void close_for(const struct call *call, const struct session *session)
{
    struct ccfs_request request;
    struct ccfs_why why;
    char reply[CCFS_REPLY_SIZE];

    if (geteuid() != 0) {
        if (call->options.debug)
            pam_syslog(call->pamh, LOG_DEBUG, "session %s: ends with its process", session->id);
        return;
    }
    ccfs_request_begin(&request, "close");
    ccfs_request_add(&request, "session", session->id);
    if (!ccfs_ask(&request, call->deadline, reply, &why))
        pam_syslog(call->pamh, LOG_WARNING, "session %s is not closed: %s", session->id, why.text);
    else if (call->options.debug)
        pam_syslog(call->pamh, LOG_DEBUG, "session %s: closed", session->id);
}

/* Closes the session, where one was opened. */
static void close_session(pam_handle_t *pamh, int argc, const char **argv)
{
    struct call call = begin(pamh, argc, argv);
    const struct session *session = remembered(pamh);

    if (session == NULL)
        return;
    if (session->id[0] != '\0')
        close_for(&call, session);
    pam_set_data(pamh, DATA, NULL, NULL);
}

EXPORT int pam_sm_open_session(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
    int kept = errno;

    (void)flags;
    open_session(pamh, argc, argv);
    errno = kept;
    return PAM_SUCCESS;
}

EXPORT int pam_sm_close_session(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
    int kept = errno;

    (void)flags;
    close_session(pamh, argc, argv);
    errno = kept;
    return PAM_SUCCESS;
}

/* In a line of another kind, where it doesn't belong, the module has no say. */
#define NO_PART(function)                                                               \
    EXPORT int function(pam_handle_t *pamh, int flags, int argc, const char **argv)     \
    {                                                                                   \
        (void)pamh, (void)flags, (void)argc, (void)argv;                                \
        return PAM_IGNORE;                                                              \
    }

NO_PART(pam_sm_authenticate)
NO_PART(pam_sm_setcred)
NO_PART(pam_sm_acct_mgmt)
NO_PART(pam_sm_chauthtok)
