/*
 * The options of a line in /etc/pam.d.
 *
 * Knows words and numbers; never what is done with them.
 */
#ifndef CCFS_OPTIONS_H
#define CCFS_OPTIONS_H

#include <stdbool.h>
#include <sys/types.h>

#include <security/pam_modules.h>

struct ccfs_options {
    unsigned timeout;    /* milliseconds for all that is done at one call */
    const char *import;  /* "session", "if-empty" or "never" */
    const char *scope;   /* "user" or "session" */
    const char *skip;    /* services that are none of ours, between commas */
    uid_t min_uid;       /* users below it get no mount */
    bool dir;            /* KRB5CCNAME is a DIR: collection, else a FILE: */
    bool debug;          /* say what is done, not only what fails */
};

/*
 * Reads the words of the line.  One that is unknown, or has no meaning, is logged and passed over:
 * the option keeps its default.  The strings belong to argv, or are static.
 */
struct ccfs_options ccfs_options_parse(pam_handle_t *pamh, int argc, const char **argv);

/* Returns whether a service is one in which nothing is done. */
bool ccfs_options_skip(const struct ccfs_options *options, const char *service);

#endif
