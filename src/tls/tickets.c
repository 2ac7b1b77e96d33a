/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/tickets.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <weir/error.h>

#include "core/memory.h"

/* One that encrypts, and those whose tickets may still be good. */
#define RANDOM_KEYS (WEIR__TLS_TICKETS_KEEP_S / WEIR__TLS_TICKETS_RENEW_S)
_Static_assert(RANDOM_KEYS <= WEIR__TLS_TICKET_KEYS_MAX, "random keys have room");

#define KEY_BYTES 80 /* in a file */
_Static_assert(sizeof(struct weir__tls_ticket_key) == KEY_BYTES, "a file's keys are as in memory");
#define FILE_BYTES_MAX (WEIR__TLS_TICKET_KEYS_MAX * KEY_BYTES)

/* By which it is known whether a file has changed. */
struct stamp {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec modified, changed;
};

struct weir_tls_tickets {
    pthread_mutex_t refresh_lock;               /* of the next three: held while the file is read */
    struct stamp seen;                          /* when the file was read last */
    uint64_t made_s[WEIR__TLS_TICKET_KEYS_MAX]; /* when each of the random keys was */
    char *file;                                 /* NULL: random keys */

    pthread_mutex_t keys_lock; /* never held for longer than a copy takes */
    struct weir__tls_ticket_keys keys;
    _Atomic uint64_t generation;
};

/* Replaces the keys, unless they are the same. */
static void keys_set(struct weir_tls_tickets *tickets, const struct weir__tls_ticket_keys *keys)
{
    pthread_mutex_lock(&tickets->keys_lock);
    /* Unused ones are zeros in both. */
    if (memcmp(&tickets->keys, keys, sizeof(*keys)) != 0) {
        tickets->keys = *keys;
        atomic_fetch_add(&tickets->generation, 1);
    }
    pthread_mutex_unlock(&tickets->keys_lock);
}

/* ---- random keys ---- */

/* How many of the random keys are young enough. They are in the order of age, the newest first. */
static unsigned random_keep(const struct weir_tls_tickets *tickets, unsigned count, uint64_t now_s)
{
    unsigned kept = 0;

    while (kept < count && (now_s < tickets->made_s[kept] ||
                            now_s - tickets->made_s[kept] < WEIR__TLS_TICKETS_KEEP_S))
        kept++;
    return kept;
}

static int random_refresh(struct weir_tls_tickets *tickets, uint64_t now_s, char *complaint)
{
    struct weir__tls_ticket_keys keys;
    struct weir__tls_ticket_key newest;
    int rc = 0;

    weir__tls_tickets_get(tickets, &keys);
    unsigned kept = random_keep(tickets, keys.count, now_s);
    if (kept == 0 ||
        (now_s >= tickets->made_s[0] && now_s - tickets->made_s[0] >= WEIR__TLS_TICKETS_RENEW_S)) {
        if (getentropy(&newest, sizeof(newest)) < 0) {
            snprintf(complaint, WEIR_TLS_COMPLAINT_MAX, "no random bytes: %s", strerror(errno));
            rc = WEIR_EACCESS;
            goto out;
        }
        if (kept == RANDOM_KEYS)
            kept--;
        memmove(&keys.keys[1], &keys.keys[0], kept * sizeof(keys.keys[0]));
        memmove(&tickets->made_s[1], &tickets->made_s[0], kept * sizeof(tickets->made_s[0]));
        keys.keys[0] = newest;
        tickets->made_s[0] = now_s;
        kept++;
    }
    memset(&keys.keys[kept], 0, (WEIR__TLS_TICKET_KEYS_MAX - kept) * sizeof(keys.keys[0]));
    keys.count = kept;
    keys_set(tickets, &keys);
out:
    weir__tls_wipe(&newest, sizeof(newest));
    weir__tls_wipe(&keys, sizeof(keys));
    return rc;
}

/* ---- keys from a file ---- */

static struct stamp stamp_of(const struct stat *status)
{
    return (struct stamp){status->st_dev, status->st_ino, status->st_size, status->st_mtim,
                          status->st_ctim};
}

static bool is_same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool is_same(const struct stamp *a, const struct stamp *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           is_same_time(&a->modified, &b->modified) && is_same_time(&a->changed, &b->changed);
}

/* Who reads these keys reads every connection that was resumed by them in TLS 1.2. */
static int status_check(const char *file, const struct stat *status, char *complaint)
{
    const char *fault = NULL;

    if (!S_ISREG(status->st_mode))
        fault = "is no regular file";
    else if (status->st_mode & (S_IROTH | S_IWOTH))
        fault = "can be read or written by everybody: chmod o-rw it";
    else if (status->st_mode & S_IWGRP)
        fault = "can be written by its group: chmod g-w it";
    else if (status->st_size == 0 || status->st_size > FILE_BYTES_MAX ||
             status->st_size % KEY_BYTES != 0)
        fault = "does not hold 1 to 4 ticket keys of 80 bytes each";
    if (!fault)
        return 0;
    snprintf(complaint, WEIR_TLS_COMPLAINT_MAX, "%s %s", file, fault);
    return WEIR_EINVAL;
}

static int keys_check(const char *file, const struct weir__tls_ticket_keys *keys, char *complaint)
{
    for (unsigned i = 1; i < keys->count; i++) {
        for (unsigned j = 0; j < i; j++) {
            if (memcmp(keys->keys[i].name, keys->keys[j].name, sizeof(keys->keys[i].name)) == 0) {
                snprintf(complaint, WEIR_TLS_COMPLAINT_MAX, "%s: keys %u and %u have one name",
                         file, j + 1, i + 1);
                return WEIR_EINVAL;
            }
        }
    }
    return 0;
}

static int no_access(const char *file, char *complaint)
{
    snprintf(complaint, WEIR_TLS_COMPLAINT_MAX, "cannot read %s: %s", file, strerror(errno));
    return WEIR_EACCESS;
}

/* Reads what is open at `fd`. A file that is written meanwhile is read when that is over. */
static int open_file_read(int fd, const char *file, struct weir__tls_ticket_keys *keys,
                          struct stamp *stamp, char *complaint)
{
    struct stat before, after;

    if (fstat(fd, &before) < 0)
        return no_access(file, complaint);
    int rc = status_check(file, &before, complaint);
    if (rc != 0)
        return rc;
    ssize_t length = read(fd, keys->keys, sizeof(keys->keys));
    if (length < 0 || fstat(fd, &after) < 0)
        return no_access(file, complaint);
    *stamp = stamp_of(&before);
    struct stamp stamp_after = stamp_of(&after);
    if (length != before.st_size || !is_same(stamp, &stamp_after)) {
        snprintf(complaint, WEIR_TLS_COMPLAINT_MAX, "%s changes while it is read", file);
        return WEIR_EINVAL;
    }
    keys->count = (unsigned)(length / KEY_BYTES);
    return keys_check(file, keys, complaint);
}

static int file_refresh(struct weir_tls_tickets *tickets, char *complaint)
{
    struct weir__tls_ticket_keys keys;
    struct stat status;
    struct stamp stamp;
    const char *file = tickets->file;

    if (stat(file, &status) < 0)
        return no_access(file, complaint);
    stamp = stamp_of(&status);
    if (is_same(&stamp, &tickets->seen))
        return 0;
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* it may be a FIFO */
    if (fd < 0)
        return no_access(file, complaint);
    memset(&keys, 0, sizeof(keys));
    int rc = open_file_read(fd, file, &keys, &stamp, complaint);
    close(fd);
    if (rc == 0) {
        keys_set(tickets, &keys);
        tickets->seen = stamp;
    }
    weir__tls_wipe(&keys, sizeof(keys));
    return rc;
}

/* ---- their life ---- */

int weir__tls_tickets_refresh_at(struct weir_tls_tickets *tickets, uint64_t now_s,
                                 char complaint[WEIR_TLS_COMPLAINT_MAX])
{
    complaint[0] = '\0';
    pthread_mutex_lock(&tickets->refresh_lock);
    int rc = tickets->file ? file_refresh(tickets, complaint)
                           : random_refresh(tickets, now_s, complaint);
    pthread_mutex_unlock(&tickets->refresh_lock);
    return rc;
}

int weir__tls_tickets_new_at(struct weir_tls_tickets **tickets_out, const char *file,
                             uint64_t now_s, char complaint[WEIR_TLS_COMPLAINT_MAX])
{
    struct weir_tls_tickets *tickets = weir__allocate_zeroed(1, sizeof(*tickets));
    int rc;

    snprintf(complaint, WEIR_TLS_COMPLAINT_MAX, "out of memory");
    if (!tickets)
        return WEIR_ENOMEM;
    pthread_mutex_init(&tickets->refresh_lock, NULL);
    pthread_mutex_init(&tickets->keys_lock, NULL);
    tickets->file = file ? weir__allocate(strlen(file) + 1) : NULL;
    if (file && !tickets->file) {
        weir_tls_tickets_free(tickets);
        return WEIR_ENOMEM;
    }
    if (file)
        strcpy(tickets->file, file);
    rc = weir__tls_tickets_refresh_at(tickets, now_s, complaint);
    if (rc != 0) {
        weir_tls_tickets_free(tickets);
        return rc;
    }
    *tickets_out = tickets;
    return 0;
}

void weir_tls_tickets_free(struct weir_tls_tickets *tickets)
{
    if (!tickets)
        return;
    pthread_mutex_destroy(&tickets->refresh_lock);
    pthread_mutex_destroy(&tickets->keys_lock);
    weir__release(tickets->file);
    weir__tls_wipe(&tickets->keys, sizeof(tickets->keys));
    weir__release(tickets);
}

static uint64_t clock_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec;
}

int weir_tls_tickets_new(struct weir_tls_tickets **tickets, const char *file,
                         char complaint[WEIR_TLS_COMPLAINT_MAX])
{
    return weir__tls_tickets_new_at(tickets, file, clock_s(), complaint);
}

int weir_tls_tickets_refresh(struct weir_tls_tickets *tickets,
                             char complaint[WEIR_TLS_COMPLAINT_MAX])
{
    return weir__tls_tickets_refresh_at(tickets, clock_s(), complaint);
}

uint64_t weir__tls_tickets_get(struct weir_tls_tickets *tickets, struct weir__tls_ticket_keys *keys)
{
    pthread_mutex_lock(&tickets->keys_lock);
    *keys = tickets->keys;
    uint64_t generation = atomic_load(&tickets->generation);
    pthread_mutex_unlock(&tickets->keys_lock);
    return generation;
}

uint64_t weir__tls_tickets_generation(struct weir_tls_tickets *tickets)
{
    return atomic_load(&tickets->generation);
}
