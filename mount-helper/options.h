/* SPDX-License-Identifier: MIT */
/*
 * The module's options in a line of /etc/pam.d.
 *
 * Knows words and numbers; never what they are used for.
 */
#ifndef CCFS_OPTIONS_H
#define CCFS_OPTIONS_H

#include <stdbool.h>
#include <sys/types.h>

#include <security/pam_modules.h>

struct ccfs_options {
    unsigned timeout;    /* milliseconds for one call of the module */
    const char *import;  /* "session", "if-empty" or "never" */
    const char *scope;   /* "user" or "session" */
    const char *skip;    /* services in which the module does nothing, comma-separated */
    uid_t min_uid;       /* users below it get no mount */
    bool dir;            /* KRB5CCNAME is a DIR: collection, else a FILE: */
    bool debug;          /* log what is done, not only what fails */
};

/*
 * Parses the words of the line.  An unknown word, or one with an invalid value, is logged and
 * ignored: the option keeps its default.  The strings are argv's, or static.
 */
struct ccfs_options ccfs_options_parse(pam_handle_t *pamh, int argc, const char **argv);

/* Returns true for a service in which the module does nothing. */
bool ccfs_options_skip(const struct ccfs_options *options, const char *service);

#endif
