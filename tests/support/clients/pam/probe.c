/* SPDX-License-Identifier: MIT */
/*
 * A PAM module that stands before and after the one under test: `pam_probe.so set` sets errno,
 * `pam_probe.so tell` says what has become of it, in the PAM environment.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <security/pam_modules.h>

static int probe(pam_handle_t *pamh, int argc, const char **argv)
{
    int found = errno;
    char text[32];

    if (argc == 1 && strcmp(argv[0], "tell") == 0) {
        snprintf(text, sizeof(text), "ERRNO=%d", found);
        pam_putenv(pamh, text);
    }
    errno = 77;
    return PAM_SUCCESS;
}

int pam_sm_open_session(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
    (void)flags;
    return probe(pamh, argc, argv);
}

int pam_sm_close_session(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
    (void)flags;
    return probe(pamh, argc, argv);
}
