/* SPDX-License-Identifier: MIT */
#include "mountinfo.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Returns the next field of a line and advances the line, NULL at its end. */
static char *next_field(char **line)
{
    return strsep(line, " ");
}

/* Returns true if `mountpoint` is a directory on the way to `path`. */
static bool is_parent(const char *mountpoint, const char *path)
{
    size_t length = strlen(mountpoint);

    if (length == 1 && *mountpoint == '/')
        return true;
    return strncmp(path, mountpoint, length) == 0 && path[length] == '/';
}

/*
 * Updates `found` by a line: `ID PARENT MAJOR:MINOR ROOT MOUNTPOINT ...` (proc(5)).  A lookup of
 * `path` finds the last mount there, unless a directory on the way was mounted over since.
 */
static void parse_line(char *line, const char *path, const char *device, bool *found)
{
    char *number = NULL, *mountpoint = NULL;

    for (int i = 0; i < 5; i++) {
        char *field = next_field(&line);

        if (field == NULL)
            return;
        if (i == 2)
            number = field;
        mountpoint = field;
    }
    if (strcmp(mountpoint, path) == 0)
        *found = strcmp(number, device) == 0;
    else if (is_parent(mountpoint, path))
        *found = false;
}

bool ccfs_is_mounted(const char *path, const char *device)
{
    bool found = false;
    char *line = NULL;
    size_t size = 0;
    int error;
    FILE *table = fopen("/proc/self/mountinfo", "re");

    if (table == NULL)
        return false;
    errno = 0;
    while (getline(&line, &size, table) >= 0)
        parse_line(line, path, device, &found);
    error = feof(table) ? 0 : errno;
    free(line);
    fclose(table);
    errno = error;
    return found && error == 0;
}
