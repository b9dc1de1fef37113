/*
 * Asking ccfsd: one message there, one back, within a deadline.
 *
 * Knows a socket, who listens at it, and the words' shape (WORD key=value ..., values
 * percent-encoded); never what the words mean.  It starts no process and no thread, and keeps no
 * descriptor.
 */
#ifndef CCFS_CONTROL_H
#define CCFS_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef CCFS_RUN
#define CCFS_RUN "/run/ccfs"
#endif

#define CCFS_MESSAGE_MAX 4096                   /* bytes of a request or a reply */
#define CCFS_REPLY_SIZE (CCFS_MESSAGE_MAX + 1)  /* with the zero behind it */

/* What went wrong, for a line in the log. */
struct ccfs_why {
    char text[256];
};

/* A request in the making.  `full` says that it didn't fit. */
struct ccfs_request {
    char text[CCFS_MESSAGE_MAX];
    size_t length;
    bool full;
};

/* Begins a request with its word. */
void ccfs_request_begin(struct ccfs_request *request, const char *word);

/* Adds ` key=value` with the value encoded. */
void ccfs_request_add(struct ccfs_request *request, const char *key, const char *value);
void ccfs_request_add_number(struct ccfs_request *request, const char *key, uintmax_t number);

/* Milliseconds of a clock that only goes on, for deadlines. */
int64_t ccfs_clock(void);

/*
 * Sends the request and waits for the reply until `deadline` (of ccfs_clock).  Returns whether that
 * is an "ok"; `reply` is then the text behind it.  Else `why` says what came instead.
 */
bool ccfs_ask(const struct ccfs_request *request, int64_t deadline, char reply[CCFS_REPLY_SIZE],
              struct ccfs_why *why);

/* Finds `key=` in a reply and decodes its value; returns whether it is there and fits. */
bool ccfs_reply_value(const char *reply, const char *key, char *value, size_t size);

#endif
