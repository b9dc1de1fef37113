/* SPDX-License-Identifier: MIT */
/*
 * A client of ccfsd's control socket: one request, one reply, within a deadline.
 *
 * Knows a socket, the process that listens at it, and the form of messages (WORD key=value ...,
 * values percent-encoded); never what they mean.  It starts no process and no thread, and leaves no
 * descriptor open.
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
#define CCFS_REPLY_SIZE (CCFS_MESSAGE_MAX + 1)  /* with a terminating zero */

/* An error message, for a line in the log. */
struct ccfs_error {
    char text[256];
};

/* A request that is being built.  `full`: it is longer than a message may be. */
struct ccfs_request {
    char text[CCFS_MESSAGE_MAX];
    size_t length;
    bool full;
};

/* Begins a request with its word. */
void ccfs_request_begin(struct ccfs_request *request, const char *word);

/* Appends ` key=value`, with the value encoded. */
void ccfs_request_add(struct ccfs_request *request, const char *key, const char *value);
void ccfs_request_add_number(struct ccfs_request *request, const char *key, uintmax_t number);

/* Returns milliseconds of the monotonic clock, for deadlines. */
int64_t ccfs_clock(void);

/*
 * Sends the request and waits for the reply until `deadline` (of ccfs_clock).  Returns true if the
 * reply is "ok"; `reply` is then the text after that word.  Else `error` says what happened.
 */
bool ccfs_ask(const struct ccfs_request *request, int64_t deadline, char reply[CCFS_REPLY_SIZE],
              struct ccfs_error *error);

/* Finds `key=` in a reply and decodes its value; returns true if it is there and fits. */
bool ccfs_reply_value(const char *reply, const char *key, char *value, size_t size);

#endif
