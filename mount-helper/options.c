/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include <security/pam_ext.h>

#define TIMEOUT_DEFAULT 1000
#define TIMEOUT_MIN 50 /* milliseconds: a smaller number was probably meant as seconds */
#define TIMEOUT_MAX 60000
#define MIN_UID_DEFAULT 1000 /* system accounts, root included, have no tickets */

/* Its close_session runs as the user, and it outlives the user's last session. */
#define ALWAYS_SKIPPED "systemd-user"

/* Sets one option from the text after its `=`; returns true if that is valid. */
typedef bool setter(struct ccfs_options *options, const char *value);

static setter set_timeout, set_ccname, set_import, set_scope, set_min_uid, set_skip, set_debug;

static const struct {
    const char *name;
    setter *set;
    bool takes_value;
} known[] = {
    {"timeout", set_timeout, true}, {"ccname", set_ccname, true},
    {"import", set_import, true},   {"scope", set_scope, true},
    {"min_uid", set_min_uid, true}, {"skip_services", set_skip, true},
    {"debug", set_debug, false},
};

/* Parses the decimal number at the start of a text; returns the rest, NULL without a number. */
static const char *read_number(const char *text, unsigned long *number)
{
    char *end;

    if (*text < '0' || *text > '9')
        return NULL;
    errno = 0;
    *number = strtoul(text, &end, 10);
    return errno == 0 ? end : NULL;
}

/* Sets `chosen` to the word of a list that equals `value`; returns true if there is one. */
static bool choose(const char **chosen, const char *value, const char *const words[])
{
    for (; *words != NULL; words++) {
        if (strcmp(value, *words) == 0) {
            *chosen = *words;
            return true;
        }
    }
    return false;
}

static bool set_timeout(struct ccfs_options *options, const char *value)
{
    unsigned long number;
    const char *unit = read_number(value, &number);

    if (unit == NULL || number > TIMEOUT_MAX)
        return false;
    if (strcmp(unit, "s") == 0)
        number *= 1000;
    else if (*unit != '\0' && strcmp(unit, "ms") != 0)
        return false;
    if (number < TIMEOUT_MIN || number > TIMEOUT_MAX)
        return false;
    options->timeout = (unsigned)number;
    return true;
}

static bool set_ccname(struct ccfs_options *options, const char *value)
{
    static const char *const words[] = {"file", "dir", NULL};
    const char *chosen;

    if (!choose(&chosen, value, words))
        return false;
    options->dir = *chosen == 'd';
    return true;
}

static bool set_import(struct ccfs_options *options, const char *value)
{
    static const char *const words[] = {"session", "if-empty", "never", NULL};

    return choose(&options->import, value, words);
}

static bool set_scope(struct ccfs_options *options, const char *value)
{
    static const char *const words[] = {"user", "session", NULL};

    return choose(&options->scope, value, words);
}

static bool set_min_uid(struct ccfs_options *options, const char *value)
{
    unsigned long number;
    const char *end = read_number(value, &number);

    if (end == NULL || *end != '\0' || number >= UINT_MAX)
        return false;
    options->min_uid = (uid_t)number;
    return true;
}

static bool set_skip(struct ccfs_options *options, const char *value)
{
    options->skip = value;
    return true;
}

static bool set_debug(struct ccfs_options *options, const char *value)
{
    (void)value;
    options->debug = true;
    return true;
}

/* Sets the option in a word of the line; returns true if it is known and valid. */
static bool set_option(struct ccfs_options *options, const char *word)
{
    size_t length = strcspn(word, "=");
    bool has_value = word[length] == '=';

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strlen(known[i].name) != length || strncmp(known[i].name, word, length) != 0)
            continue;
        if (known[i].takes_value != has_value)
            return false;
        return known[i].set(options, word + length + has_value);
    }
    return false;
}

struct ccfs_options ccfs_options_parse(pam_handle_t *pamh, int argc, const char **argv)
{
    struct ccfs_options options = {
        .timeout = TIMEOUT_DEFAULT,
        .import = "session",
        .scope = "user",
        .skip = "",
        .min_uid = MIN_UID_DEFAULT,
    };

    for (int i = 0; i < argc; i++) {
        if (!set_option(&options, argv[i]))
            pam_syslog(pamh, LOG_ERR, "invalid option %s: ignored", argv[i]);
    }
    return options;
}

/* Returns true if a word is in a comma-separated list. */
static bool in_list(const char *list, const char *word)
{
    size_t length = strlen(word), item;

    for (;; list += item + 1) {
        item = strcspn(list, ",");
        if (item == length && strncmp(list, word, length) == 0)
            return true;
        if (list[item] == '\0')
            return false;
    }
}

bool ccfs_options_skip(const struct ccfs_options *options, const char *service)
{
    return strcmp(service, ALWAYS_SKIPPED) == 0 || in_list(options->skip, service);
}
