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
#define BUSY_PAUSE 5 /* milliseconds between two tries at a queue that is full */

/* Says why; returns false, which is what its callers return. */
static bool __attribute__((format(printf, 2, 3)))
fail(struct ccfs_why *why, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(why->text, sizeof(why->text), format, arguments);
    va_end(arguments);
    return false;
}

/* Appends a byte. */
static void put(struct ccfs_request *request, char byte)
{
    if (request->length < sizeof(request->text))
        request->text[request->length++] = byte;
    else
        request->full = true;
}

static void put_text(struct ccfs_request *request, const char *text)
{
    while (*text != '\0')
        put(request, *text++);
}

void ccfs_request_begin(struct ccfs_request *request, const char *word)
{
    request->length = 0;
    request->full = false;
    put_text(request, word);
}

void ccfs_request_add(struct ccfs_request *request, const char *key, const char *value)
{
    static const char digits[] = "0123456789ABCDEF";

    put(request, ' ');
    put_text(request, key);
    put(request, '=');
    for (; *value != '\0'; value++) {
        unsigned char byte = (unsigned char)*value;

        if (byte > 0x20 && byte < 0x7f && byte != '%') {
            put(request, *value);
            continue;
        }
        put(request, '%');
        put(request, digits[byte >> 4]);
        put(request, digits[byte & 15]);
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
static bool await(int fd, short events, int64_t deadline)
{
    struct pollfd wanted = {.fd = fd, .events = events};

    for (;;) {
        int64_t left = deadline - ccfs_clock();
        int ready = left > 0 ? poll(&wanted, 1, (int)left) : 0;

        if (ready > 0)
            return true;
        if (ready == 0)
            errno = ETIMEDOUT;
        if (ready == 0 || errno != EINTR)
            return false;
    }
}

/*
 * Connects.  Nothing tells when a place in the listener's queue gets free (EAGAIN), so one asks
 * again.
 */
static bool join(int fd, int64_t deadline, struct ccfs_why *why)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = SOCKET};

    while (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        if (errno != EAGAIN && errno != EINTR)
            return fail(why, "cannot connect to " SOCKET ": %m");
        if (ccfs_clock() + BUSY_PAUSE >= deadline)
            return fail(why, "ccfsd is too busy to take a request");
        poll(NULL, 0, BUSY_PAUSE);
    }
    return true;
}

/* Returns whether nobody but root can put a socket or a mountpoint into our directory. */
static bool check_directory(struct ccfs_why *why)
{
    struct stat status;

    if (lstat(CCFS_RUN, &status) != 0)
        return fail(why, "cannot use " CCFS_RUN ": %m");
    if (!S_ISDIR(status.st_mode))
        return fail(why, CCFS_RUN " is not a directory");
    if (status.st_uid != 0)
        return fail(why, CCFS_RUN " belongs to uid %ju", (uintmax_t)status.st_uid);
    if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return fail(why, "others may write to " CCFS_RUN);
    return true;
}

/* Returns whether it is root who listens. */
static bool check_server(int fd, struct ccfs_why *why)
{
    struct ucred server;
    socklen_t size = sizeof(server);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &server, &size) != 0)
        return fail(why, "cannot tell who listens at " SOCKET ": %m");
    if (server.uid != 0)
        return fail(why, "uid %ju listens at " SOCKET, (uintmax_t)server.uid);
    return true;
}

static bool send_request(int fd, const struct ccfs_request *request, struct ccfs_why *why)
{
    ssize_t sent;

    do
        sent = send(fd, request->text, request->length, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0)
        return fail(why, "cannot ask ccfsd: %m");
    return true;
}

static bool receive(int fd, int64_t deadline, char reply[CCFS_REPLY_SIZE], struct ccfs_why *why)
{
    ssize_t length;

    do {
        if (!await(fd, POLLIN, deadline))
            return fail(why, "ccfsd doesn't answer: %m");
        length = recv(fd, reply, CCFS_MESSAGE_MAX, MSG_TRUNC | MSG_DONTWAIT);
    } while (length < 0 && (errno == EINTR || errno == EAGAIN));
    if (length < 0)
        return fail(why, "ccfsd doesn't answer: %m");
    if (length == 0)
        return fail(why, "ccfsd went away without an answer");
    if (length > CCFS_MESSAGE_MAX || memchr(reply, '\0', (size_t)length) != NULL)
        return fail(why, "ccfsd's answer makes no sense");
    reply[length] = '\0';
    return true;
}

/* Makes a text one line that can't fool whoever reads the log. */
static void clean(char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
    }
}

/* Takes the word off a reply; returns whether it was "ok". */
static bool judge(char *reply, struct ccfs_why *why)
{
    if (strncmp(reply, "ok", 2) == 0 && (reply[2] == ' ' || reply[2] == '\0')) {
        memmove(reply, reply + 2, strlen(reply + 2) + 1);
        return true;
    }
    if (strncmp(reply, "error ", 6) != 0)
        return fail(why, "ccfsd's answer makes no sense");
    clean(reply);
    return fail(why, "ccfsd says: %s", reply + 6);
}

bool ccfs_ask(const struct ccfs_request *request, int64_t deadline, char reply[CCFS_REPLY_SIZE],
              struct ccfs_why *why)
{
    bool done = false;
    int fd = -1;

    if (request->full) {
        fail(why, "the request is too long");
        goto out;
    }
    if (!check_directory(why))
        goto out;
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        fail(why, "cannot make a socket: %m");
        goto out;
    }
    done = join(fd, deadline, why) && check_server(fd, why) && send_request(fd, request, why) &&
           receive(fd, deadline, reply, why) && judge(reply, why);
out:
    if (fd >= 0)
        close(fd);
    return done;
}

/* Returns the number a hexadecimal digit stands for, -1 where it is none. */
static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Decodes a value up to the next space. */
static bool decode(const char *text, char *value, size_t size)
{
    size_t length = 0;

    for (; *text != '\0' && *text != ' '; text++, length++) {
        if (length + 1 >= size)
            return false;
        value[length] = *text;
        if (*text == '%') {
            int high = digit(text[1]), low = high < 0 ? -1 : digit(text[2]);

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
