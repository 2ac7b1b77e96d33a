/* SPDX-License-Identifier: Apache-2.0 */
#include "server/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <weir/error.h>

#include "core/memory.h"
#include "http/conditional.h"
#include "http/date.h"
#include "http/mime.h"
#include "http/target.h"
#include "http/writer.h"

#define SECOND_NS INT64_C(1000000000)

/* Time stamps of files are as coarse as 2 s on FAT. */
#define SETTLED_AFTER_S 3

/* EAGAIN: a rename raced with the resolution of "..", which then cannot be proved safe. */
#define OPEN_ATTEMPTS_MAX 8

/* Length, type, three fixed lines, a date and a tag: about 330 bytes at most. */
#define FIELDS_MAX 512

/* A path with an index or a suffix at its end. Too long a one is for the kernel to refuse. */
#define NAME_MAX_BYTES (WEIR__TARGET_PATH_MAX + 16)

static int open_beneath(int root, const char *path, uint64_t flags)
{
    struct open_how how = {
        .flags = flags | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    long descriptor = -1;
    for (int i = 0; i < OPEN_ATTEMPTS_MAX; i++) {
        descriptor = syscall(SYS_openat2, root, path, &how, sizeof(how));
        if (descriptor >= 0 || (errno != EAGAIN && errno != EINTR))
            break;
    }
    return (int)descriptor;
}

static int root_error(int error)
{
    switch (error) {
    case EACCES:
        return WEIR_EACCESS;
    case EMFILE:
    case ENFILE:
        return WEIR_EMFILE;
    case ENOMEM:
        return WEIR_ENOMEM;
    case ENOENT:
    case ENOTDIR:
    case ELOOP:
    case ENAMETOOLONG:
        return WEIR_EINVAL;
    default:
        return WEIR_EIO;
    }
}

int weir__root_open(const char *path)
{
    int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return root_error(errno);
    int probe = open_beneath(root, ".", O_PATH);
    if (probe < 0) {
        /* Seccomp filters say EPERM or ENOSYS for a call that they do not know. */
        int error = errno == ENOSYS || errno == EPERM ? WEIR_ENOTSUP : root_error(errno);
        close(root);
        return error;
    }
    close(probe);
    return root;
}

/* What an errno of openat2 says to the client. */
static int status_of(int error)
{
    switch (error) {
    case ENOENT:
    case ENOTDIR:
    case ELOOP:
    case EXDEV: /* it leads out of the root */
    case ENAMETOOLONG:
    case ENXIO:
    case ENODEV:
        return 404;
    case EACCES:
    case EPERM:
        return 403;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case EAGAIN:
        return 503;
    default:
        return 500;
    }
}

static struct weir__file_version version_of(const struct stat *status)
{
    return (struct weir__file_version){
        .device = status->st_dev,
        .inode = status->st_ino,
        .size = (uint64_t)status->st_size,
        .modified_ns = status->st_mtim.tv_sec * SECOND_NS + status->st_mtim.tv_nsec,
        .changed_ns = status->st_ctim.tv_sec * SECOND_NS + status->st_ctim.tv_nsec,
    };
}

static bool versions_equal(const struct weir__file_version *a, const struct weir__file_version *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->modified_ns == b->modified_ns && a->changed_ns == b->changed_ns;
}

/*
 * Looks at a file without opening it: to open a device or a FIFO can have effects. Returns 0 or a
 * status.
 */
static int stat_beneath(int root, const char *path, struct stat *status)
{
    int descriptor = open_beneath(root, path, O_PATH);
    if (descriptor < 0)
        return status_of(errno);
    int result = fstat(descriptor, status) == 0 ? 0 : status_of(errno);
    close(descriptor);
    return result;
}

/* The name of the file that a path is served from. */
static void build_name(char name[NAME_MAX_BYTES], struct weir__text path, enum weir__coding coding)
{
    assert(path.length < WEIR__TARGET_PATH_MAX);
    bool is_folder = path.length == 0 || path.data[path.length - 1] == '/';
    struct weir__writer writer = {name, name + NAME_MAX_BYTES};
    weir__write(&writer, path);
    weir__write_string(&writer, is_folder ? WEIR__FILE_INDEX : "");
    weir__write_string(&writer, weir__coding_suffix(coding));
    weir__write(&writer, (struct weir__text){"", 1}); /* the NUL */
}

static size_t read_all(int descriptor, char *content, size_t size, int flags)
{
    size_t have = 0;
    while (have < size) {
        struct iovec rest = {content + have, size - have};
        ssize_t count = preadv2(descriptor, &rest, 1, (off_t)have, flags);
        if (count < 0 && errno == EOPNOTSUPP && flags != 0) {
            flags = 0; /* the file system, or one below it, cannot tell */
            continue;
        }
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            break;
        have += (size_t)count;
    }
    return have;
}

/*
 * Reads a file whole, unless it changes meanwhile or is not to be had; then it is left to be sent from the
 * disk. Returns 0 or a status.
 */
static int read_content(struct weir__representation *representation,
                        const struct weir__file_version *version, int flags)
{
    size_t size = (size_t)representation->size;
    char *content = weir__allocate(size > 0 ? size : 1);
    if (!content)
        return 503;
    size_t have = read_all(representation->descriptor, content, size, flags);
    struct stat status;
    bool whole = have == size && fstat(representation->descriptor, &status) == 0;
    if (whole) {
        struct weir__file_version after = version_of(&status);
        whole = versions_equal(version, &after);
    }
    if (whole)
        representation->content = content;
    else
        weir__release(content);
    return 0;
}

/* A small file needs no descriptor once it is read. Returns 0 or a status. */
static int read_small(struct weir__representation *representation,
                      const struct weir__file_version *version)
{
    int result = read_content(representation, version, 0);
    if (result != 0 || !representation->content)
        return result;
    close(representation->descriptor);
    representation->descriptor = -1;
    return 0;
}

/* Opens one coding of a file. Returns 0 or a status. */
static int open_representation(struct weir__file *file, enum weir__coding coding, int root,
                               const char *name)
{
    struct weir__representation *representation = &file->representations[coding];
    int descriptor = open_beneath(root, name, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (descriptor < 0)
        return status_of(errno);
    struct stat status;
    if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
        close(descriptor);
        return 404;
    }
    representation->descriptor = descriptor;
    representation->size = (uint64_t)status.st_size;
    file->versions[coding] = version_of(&status);
    return representation->size <= WEIR__FILE_CONTENT_MAX
               ? read_small(representation, &file->versions[coding])
               : 0;
}

static void close_representation(struct weir__representation *representation)
{
    if (representation->descriptor >= 0)
        close(representation->descriptor);
    weir__release(representation->content);
    weir__release(representation->fields);
    *representation = (struct weir__representation){.descriptor = -1};
}

/* The tag in its quotes. The coding is in it, too: a sibling may be a hard link to the file. */
static void put_etag(struct weir__writer *writer, const struct weir__file_version *version,
                     enum weir__coding coding)
{
    weir__write_string(writer, "\"");
    weir__write_number(writer, (uint64_t)version->modified_ns, 16);
    weir__write_string(writer, "-");
    weir__write_number(writer, version->size, 16);
    weir__write_string(writer, "-");
    weir__write_number(writer, version->inode, 16);
    if (coding != WEIR__CODING_IDENTITY) {
        weir__write_string(writer, "-");
        weir__write_string(writer, weir__coding_name(coding));
    }
    weir__write_string(writer, "\"");
}

/* Writes the fields that a 304 has, too. Returns where the entity tag is. */
static struct weir__text put_validators(struct weir__writer *writer, const struct weir__file *file,
                                        enum weir__coding coding)
{
    if (file->modified_s != WEIR__MODIFIED_UNKNOWN) {
        char date[WEIR__DATE_LENGTH];
        weir__date_format(file->modified_s, date);
        weir__write_string(writer, "Last-Modified: ");
        weir__write(writer, (struct weir__text){date, sizeof(date)});
        weir__write_string(writer, "\r\n");
    }
    weir__write_string(writer, "ETag: ");
    struct weir__text etag = {writer->at, 0};
    put_etag(writer, &file->versions[coding], coding);
    etag.length = (size_t)(writer->at - etag.data);
    weir__write_string(writer, "\r\n");
    if (file->available != 1u << WEIR__CODING_IDENTITY)
        weir__write_string(writer, "Vary: Accept-Encoding\r\n");
    return etag;
}

/* Writes the header fields of a representation once, for all its responses. Returns 0 or a status.
 */
static int format_fields(struct weir__file *file, enum weir__coding coding)
{
    struct weir__representation *representation = &file->representations[coding];
    char text[FIELDS_MAX];
    struct weir__writer writer = {text, text + sizeof(text)};
    weir__write_string(&writer, "Content-Length: ");
    weir__write_number(&writer, representation->size, 10);
    weir__write_string(&writer, "\r\n");
    representation->type_at = (uint16_t)(writer.at - text);
    weir__write_string(&writer, "Content-Type: ");
    weir__write(&writer, file->type);
    weir__write_string(&writer, "\r\n");
    representation->features_at = (uint16_t)(writer.at - text);
    weir__write_string(&writer, "Accept-Ranges: bytes\r\n");
    if (coding != WEIR__CODING_IDENTITY) {
        weir__write_string(&writer, "Content-Encoding: ");
        weir__write_string(&writer, weir__coding_name(coding));
        weir__write_string(&writer, "\r\n");
    }
    representation->validators_at = (uint16_t)(writer.at - text);
    struct weir__text etag = put_validators(&writer, file, coding);

    representation->fields_length = (uint16_t)(writer.at - text);
    representation->fields = weir__allocate(representation->fields_length);
    if (!representation->fields)
        return 503;
    memcpy(representation->fields, text, representation->fields_length);
    representation->etag =
        (struct weir__text){representation->fields + (etag.data - text), etag.length};
    return 0;
}

/*
 * Takes a precompressed sibling in, if there is a regular one that is not older than the file.
 * Seconds decide: some tools copy the time of the file without its fraction. Returns 0 or a status.
 */
static int load_sibling(struct weir__file *file, enum weir__coding coding, int root)
{
    char name[NAME_MAX_BYTES];
    struct stat status;
    build_name(name, (struct weir__text){file->path, file->path_length}, coding);
    int result = stat_beneath(root, name, &status);
    if (result == 503)
        return result;
    if (result != 0)
        return 0;
    file->versions[coding] = version_of(&status);
    int64_t original_ns = file->versions[WEIR__CODING_IDENTITY].modified_ns;
    if (!S_ISREG(status.st_mode) || status.st_mtim.tv_sec < original_ns / SECOND_NS)
        return 0;
    result = open_representation(file, coding, root, name);
    if (result == 0)
        file->available |= 1u << coding;
    return result == 503 ? result : 0;
}

static int load_regular(struct weir__file *file, int root, const char *name, int64_t wall_s)
{
    int result = open_representation(file, WEIR__CODING_IDENTITY, root, name);
    if (result != 0)
        return result;
    file->kind = WEIR__FILE_REGULAR;
    file->available = 1u << WEIR__CODING_IDENTITY;
    file->type = weir__mime_type((struct weir__text){name, strlen(name)});
    for (int i = WEIR__CODING_IDENTITY + 1; i < WEIR__CODING_COUNT; i++)
        if ((result = load_sibling(file, (enum weir__coding)i, root)) != 0)
            return result;

    /* A Last-Modified may not lie ahead of Date (RFC 9110 8.8.2.1). */
    int64_t modified_ns = file->versions[WEIR__CODING_IDENTITY].modified_ns;
    if (modified_ns >= 0 && modified_ns / SECOND_NS <= wall_s)
        file->modified_s = modified_ns / SECOND_NS;
    file->settled = true;
    for (int i = 0; i < WEIR__CODING_COUNT; i++) {
        if (file->representations[i].descriptor >= 0)
            file->is_open = true;
        if (file->versions[i].changed_ns / SECOND_NS + SETTLED_AFTER_S > wall_s)
            file->settled = false;
        if (file->available >> i & 1 && (result = format_fields(file, (enum weir__coding)i)) != 0)
            return result;
    }
    return 0;
}

static int load(struct weir__file *file, int root, int64_t wall_s)
{
    char name[NAME_MAX_BYTES];
    struct stat status;
    build_name(name, (struct weir__text){file->path, file->path_length}, WEIR__CODING_IDENTITY);
    int result = stat_beneath(root, name, &status);
    if (result != 0)
        return result;
    if (S_ISREG(status.st_mode))
        return load_regular(file, root, name, wall_s);
    if (!S_ISDIR(status.st_mode))
        return 404;
    /* A folder in the place of an index is none. */
    if (file->path_length == 0 || file->path[file->path_length - 1] == '/')
        return 404;
    file->kind = WEIR__FILE_FOLDER;
    return 0;
}

int weir__file_load(struct weir__file **file, int root, struct weir__text path, int64_t wall_s)
{
    struct weir__file *loaded = weir__allocate_zeroed(1, sizeof(*loaded) + path.length + 1);
    if (!loaded)
        return -503;
    memcpy(loaded->path, path.data, path.length);
    loaded->path_length = path.length;
    loaded->modified_s = WEIR__MODIFIED_UNKNOWN;
    for (int i = 0; i < WEIR__CODING_COUNT; i++)
        loaded->representations[i].descriptor = -1;

    int status = load(loaded, root, wall_s);
    if (status == 500 || status == 503) {
        weir__file_free(loaded);
        return -status;
    }
    if (status != 0) {
        loaded->kind = WEIR__FILE_NONE;
        loaded->status = (unsigned)status;
    }
    *file = loaded;
    return 0;
}

int weir__file_check(const struct weir__file *file, int root)
{
    assert(file->kind == WEIR__FILE_REGULAR);
    for (int i = 0; i < WEIR__CODING_COUNT; i++) {
        char name[NAME_MAX_BYTES];
        struct stat status;
        struct weir__file_version version = {0};
        build_name(name, (struct weir__text){file->path, file->path_length}, (enum weir__coding)i);
        int result = stat_beneath(root, name, &status);
        if (result == 503)
            return -503;
        if (result == 0)
            version = version_of(&status);
        if (!versions_equal(&version, &file->versions[i]))
            return WEIR__FILE_CHANGED;
    }
    return WEIR__FILE_SAME;
}

bool weir__file_heat(struct weir__file *file, enum weir__coding coding)
{
    struct weir__representation *representation = &file->representations[coding];
    assert(representation->descriptor >= 0);
    assert(!representation->content);
    if (read_content(representation, &file->versions[coding], RWF_NOWAIT) != 0 ||
        !representation->content)
        return false;
    file->hot_bytes += representation->size;
    return true;
}

void weir__file_cool(struct weir__file *file)
{
    assert(file->references == 0);
    for (int i = 0; i < WEIR__CODING_COUNT; i++) {
        struct weir__representation *representation = &file->representations[i];
        if (representation->descriptor < 0)
            continue;
        weir__release(representation->content);
        representation->content = NULL;
    }
    file->hot_bytes = 0;
}

void weir__file_free(struct weir__file *file)
{
    assert(file->references == 0);
    for (int i = 0; i < WEIR__CODING_COUNT; i++)
        close_representation(&file->representations[i]);
    weir__release(file);
}
