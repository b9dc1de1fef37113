/* SPDX-License-Identifier: MIT */
#include "control.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define SOCKET CCFS_RUN "/control"
#define BUSY_PAUSE 5 /* milliseconds between two tries while the listener's backlog is full */

/* Sets the error message; returns false, for its callers to return. */
static bool __attribute__((format(printf, 2, 3)))
fail(struct ccfs_error *error, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(error->text, sizeof(error->text), format, arguments);
    va_end(arguments);
    return false;
}

/* Appends a byte, or sets `full`. */
static void append(struct ccfs_request *request, char byte)
{
    if (request->length < sizeof(request->text))
        request->text[request->length++] = byte;
    else
        request->full = true;
}

static void append_text(struct ccfs_request *request, const char *text)
{
    while (*text != '\0')
        append(request, *text++);
}

void ccfs_request_begin(struct ccfs_request *request, const char *word)
{
    request->length = 0;
    request->full = false;
    append_text(request, word);
}

void ccfs_request_add(struct ccfs_request *request, const char *key, const char *value)
{
    static const char digits[] = "0123456789ABCDEF";

    append(request, ' ');
    append_text(request, key);
    append(request, '=');
    for (; *value != '\0'; value++) {
        unsigned char byte = (unsigned char)*value;

        if (byte > 0x20 && byte < 0x7f && byte != '%') {
            append(request, *value);
            continue;
        }
        append(request, '%');
        append(request, digits[byte >> 4]);
        append(request, digits[byte & 15]);
    }
}

void ccfs_request_add_number(struct ccfs_request *request, const char *key, uintmax_t number)
{
    char text[24];

    snprintf(text, sizeof(text), "%ju", number);
    ccfs_request_add(request, key, text);
}

int64_t ccfs_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Waits until the socket is ready or fails; returns false, with errno, at the deadline. */
static bool wait_ready(int fd, short events, int64_t deadline)
{
    struct pollfd entry = {.fd = fd, .events = events};

    for (;;) {
        int64_t left = deadline - ccfs_clock();
        int ready = left > 0 ? poll(&entry, 1, (int)left) : 0;

        if (ready > 0)
            return true;
        if (ready == 0)
            errno = ETIMEDOUT;
        if (ready == 0 || errno != EINTR)
            return false;
    }
}

/*
 * Connects.  The kernel doesn't report when a full backlog (EAGAIN) has room again, so that
 * connect(2) is repeated.
 */
static bool connect_socket(int fd, int64_t deadline, struct ccfs_error *error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = SOCKET};

    while (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        if (errno != EAGAIN && errno != EINTR)
            return fail(error, "cannot connect to " SOCKET ": %m");
        if (ccfs_clock() + BUSY_PAUSE >= deadline)
            return fail(error, "ccfsd is too busy to take a request");
        poll(NULL, 0, BUSY_PAUSE);
    }
    return true;
}

/* Returns true if only root can put a socket or a mountpoint into CCFS_RUN. */
static bool check_directory(struct ccfs_error *error)
{
    struct stat status;

    if (lstat(CCFS_RUN, &status) != 0)
        return fail(error, "cannot use " CCFS_RUN ": %m");
    if (!S_ISDIR(status.st_mode))
        return fail(error, CCFS_RUN " is not a directory");
    if (status.st_uid != 0)
        return fail(error, CCFS_RUN " belongs to uid %ju", (uintmax_t)status.st_uid);
    if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return fail(error, "other users may write to " CCFS_RUN);
    return true;
}

/* Returns true if a process of root listens. */
static bool check_listener(int fd, struct ccfs_error *error)
{
    struct ucred listener;
    socklen_t size = sizeof(listener);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &listener, &size) != 0)
        return fail(error, "cannot read the credentials of the listener at " SOCKET ": %m");
    if (listener.uid != 0)
        return fail(error, "uid %ju listens at " SOCKET, (uintmax_t)listener.uid);
    return true;
}

static bool send_request(int fd, const struct ccfs_request *request, struct ccfs_error *error)
{
    ssize_t sent;

    do
        sent = send(fd, request->text, request->length, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0)
        return fail(error, "cannot send a request to ccfsd: %m");
    return true;
}

static bool receive(int fd, int64_t deadline, char reply[CCFS_REPLY_SIZE], struct ccfs_error *error)
{
    ssize_t length;

    do {
        if (!wait_ready(fd, POLLIN, deadline))
            return fail(error, "ccfsd doesn't reply: %m");
        length = recv(fd, reply, CCFS_MESSAGE_MAX, MSG_TRUNC | MSG_DONTWAIT);
    } while (length < 0 && (errno == EINTR || errno == EAGAIN));
    if (length < 0)
        return fail(error, "ccfsd doesn't reply: %m");
    if (length == 0)
        return fail(error, "ccfsd has closed the connection without a reply");
    if (length > CCFS_MESSAGE_MAX || memchr(reply, '\0', (size_t)length) != NULL)
        return fail(error, "ccfsd's reply is malformed");
    reply[length] = '\0';
    return true;
}

/* Replaces control characters: a text must be one line of the log. */
static void replace_controls(char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
    }
}

/* Removes the first word of a reply; returns true if it was "ok". */
static bool parse_reply(char *reply, struct ccfs_error *error)
{
    if (strncmp(reply, "ok", 2) == 0 && (reply[2] == ' ' || reply[2] == '\0')) {
        memmove(reply, reply + 2, strlen(reply + 2) + 1);
        return true;
    }
    if (strncmp(reply, "error ", 6) != 0)
        return fail(error, "ccfsd's reply is malformed");
    replace_controls(reply);
    return fail(error, "ccfsd says: %s", reply + 6);
}

bool ccfs_ask(const struct ccfs_request *request, int64_t deadline, char reply[CCFS_REPLY_SIZE],
              struct ccfs_error *error)
{
    bool ok = false;
    int fd = -1;

    if (request->full) {
        fail(error, "the request is too long");
        goto out;
    }
    if (!check_directory(error))
        goto out;
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        fail(error, "cannot make a socket: %m");
        goto out;
    }
    ok = connect_socket(fd, deadline, error) && check_listener(fd, error) && send_request(fd, request, error) &&
         receive(fd, deadline, reply, error) && parse_reply(reply, error);
out:
    if (fd >= 0)
        close(fd);
    return ok;
}

/* Returns the value of a hexadecimal digit, -1 for another character. */
static int digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Decodes a value up to the next space; returns false if it is malformed or doesn't fit. */
static bool decode(const char *text, char *value, size_t size)
{
    size_t length = 0;

    for (; *text != '\0' && *text != ' '; text++, length++) {
        if (length + 1 >= size)
            return false;
        value[length] = *text;
        if (*text == '%') {
            int high = digit_value(text[1]), low = high < 0 ? -1 : digit_value(text[2]);

            if (low < 0 || high + low == 0)
                return false;
            value[length] = (char)(high << 4 | low);
            text += 2;
        }
    }
    value[length] = '\0';
    return true;
}

bool ccfs_reply_value(const char *reply, const char *key, char *value, size_t size)
{
    size_t length = strlen(key);

    for (const char *at = strchr(reply, ' '); at != NULL; at = strchr(at + 1, ' ')) {
        if (strncmp(at + 1, key, length) == 0 && at[length + 1] == '=')
            return decode(at + length + 2, value, size);
    }
    return false;
}
