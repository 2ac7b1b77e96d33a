/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
/* cmocka.h needs those before it */
#include <cmocka.h>

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <weir/error.h>

#include "server/file_cache.h"

#include "../support/tree.h"

#define SMALL  100                          /* kept in memory */
#define LARGE  (WEIR__FILE_CONTENT_MAX + 1) /* kept open */
#define HOT    (3 * LARGE)                  /* bytes of content of open files */
#define OLD_S  1000000000                   /* when the files of most tests were modified */
#define BELIEF WEIR__FILE_BELIEVED_NS

static const uint64_t seed[2] = {1, 2};
static struct weir__file_cache cache;
static uint64_t now_ns;
static int64_t wall_s;

static void open_cache(const char *root, uint32_t opened_max, uint32_t others_max)
{
    struct weir__file_cache_bounds bounds = {opened_max, 16, others_max, HOT};
    int descriptor = weir__root_open(root);
    if (descriptor == WEIR_ENOTSUP) {
        printf("SKIP: this kernel has no openat2\n");
        skip();
    }
    assert_true(descriptor >= 0);
    assert_int_equal(weir__file_cache_init(&cache, descriptor, seed, &bounds), 0);
    now_ns = UINT64_C(5000000000);
    wall_s = time(NULL) + 60; /* whatever a test writes has settled by then */
}

/* Gets a file, which the test releases; NULL after an error. */
static struct weir__file *get(const char *path, int expected)
{
    struct weir__file *file = NULL;
    struct weir__text text = {path, strlen(path)};
    int status = weir__file_cache_get(&cache, text, now_ns, wall_s, &file);
    if (status != expected)
        fail_msg("%s: %d, not %d", path, status, expected);
    return file;
}

/* "text" of its first bytes, "folder", "403", "404", or the error. */
static const char *look(const char *path)
{
    static char text[8];
    struct weir__file *file = NULL;
    struct weir__text key = {path, strlen(path)};
    int status = weir__file_cache_get(&cache, key, now_ns, wall_s, &file);
    memset(text, 0, sizeof(text));
    if (status != 0) {
        snprintf(text, sizeof(text), "%d", status);
        return text;
    }
    if (file->kind == WEIR__FILE_NONE) {
        snprintf(text, sizeof(text), "%u", file->status);
    } else if (file->kind == WEIR__FILE_FOLDER) {
        strcpy(text, "folder");
    } else {
        const struct weir__representation *whole = &file->representations[WEIR__CODING_IDENTITY];
        size_t length = whole->size < 4 ? (size_t)whole->size : 4;
        if (whole->content)
            memcpy(text, whole->content, length);
        else
            assert_int_equal(pread(whole->descriptor, text, length, 0), length);
    }
    weir__file_release(&cache, file);
    return text;
}

static void test_kinds(void **state)
{
    (void)state;
    assert_int_equal(mkdir("folder", 0755), 0);
    assert_int_equal(mkdir("empty", 0755), 0);
    assert_int_equal(mkdir("odd", 0755), 0);
    assert_int_equal(mkdir("odd/index.html", 0755), 0);
    tree_write("index.html", "root", SMALL, OLD_S);
    tree_write("folder/index.html", "inner", SMALL, OLD_S);
    tree_write("small", "small", SMALL, OLD_S);
    tree_write("large", "large", LARGE, OLD_S);
    tree_write("nothing", "x", 0, OLD_S);
    open_cache(".", 16, 16);
    assert_string_equal(look(""), "root");
    assert_string_equal(look("folder"), "folder");
    assert_string_equal(look("folder/"), "inne");
    assert_string_equal(look("empty"), "folder");
    assert_string_equal(look("empty/"), "404");
    assert_string_equal(look("odd/"), "404");
    assert_string_equal(look("odd/index.html"), "folder");
    assert_string_equal(look("small"), "smal");
    assert_string_equal(look("small/"), "404");
    assert_string_equal(look("small/x"), "404");
    assert_string_equal(look("large"), "larg");
    assert_string_equal(look("nothing"), "");
    assert_string_equal(look("missing"), "404");

    struct weir__file *file = get("large", 0);
    assert_true(file->representations[0].descriptor >= 0);
    assert_null(file->representations[0].content);
    weir__file_release(&cache, file);
    file = get("small", 0);
    assert_int_equal(file->representations[0].descriptor, -1);
    assert_int_equal(file->representations[0].size, SMALL);
    weir__file_release(&cache, file);
    weir__file_cache_dispose(&cache);
}

/* Whatever leads out of the root is not there. */
static void test_escapes(void **state)
{
    (void)state;
    char absolute[128];
    assert_int_equal(mkdir("root", 0755), 0);
    assert_int_equal(mkdir("root/deep", 0755), 0);
    tree_write("secret", "secret", SMALL, OLD_S);
    tree_write("root/inside", "inside", SMALL, OLD_S);
    tree_write("root/deep/file", "deep", SMALL, OLD_S);
    snprintf(absolute, sizeof(absolute), "%s/root/inside", tree_path);
    assert_int_equal(symlink("/etc/passwd", "root/absolute"), 0);
    assert_int_equal(symlink("/", "root/slash"), 0);
    assert_int_equal(symlink(absolute, "root/absolute-inside"), 0);
    assert_int_equal(symlink("../secret", "root/relative"), 0);
    assert_int_equal(symlink("..", "root/up"), 0);
    assert_int_equal(symlink("relative", "root/twice"), 0);
    assert_int_equal(symlink("inside", "root/good"), 0);
    assert_int_equal(symlink("deep", "root/good-folder"), 0);
    assert_int_equal(symlink("../inside", "root/deep/good-up"), 0);
    assert_int_equal(symlink("loop", "root/loop"), 0);
    assert_int_equal(symlink("gone", "root/dangling"), 0);
    assert_int_equal(symlink("/proc/self/root/etc/passwd", "root/magic"), 0);

    open_cache("root", 16, 32);
    static const char *const refused[] = {
        "absolute", "slash/etc/passwd", "absolute-inside",        "relative", "up/secret",
        "twice",    "../secret",        "deep/../../secret",      "loop",     "dangling",
        "magic",    "/etc/passwd",      "deep/../../root/inside",
    };
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        assert_string_equal(look(refused[i]), "404");
    assert_string_equal(look("good"), "insi");
    assert_string_equal(look("good-folder"), "folder");
    assert_string_equal(look("good-folder/file"), "deep");
    assert_string_equal(look("deep/good-up"), "insi");
    weir__file_cache_dispose(&cache);
}

/* The links of /proc lead anywhere without a path. */
static void test_magic_links(void **state)
{
    (void)state;
    char path[32];
    tree_write("file", "file", SMALL, OLD_S);
    int file = open("file", O_RDONLY | O_CLOEXEC);
    snprintf(path, sizeof(path), "fd/%d", file);
    open_cache("/proc/self", 16, 16);
    assert_string_equal(look(path), "404");
    assert_string_equal(look("root/etc/passwd"), "404");
    assert_string_equal(look("cwd/file"), "404");
    assert_string_equal(look("exe"), "404");
    close(file);
    weir__file_cache_dispose(&cache);
}

static void test_not_regular(void **state)
{
    (void)state;
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "socket"};
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(mkfifo("fifo", 0644), 0);
    assert_int_equal(mkfifo("index.html", 0644), 0);
    tree_write("file", "file", SMALL, OLD_S);
    assert_int_equal(mkfifo("file.gz", 0644), 0);
    open_cache(".", 16, 16);
    assert_string_equal(look("fifo"), "404");
    assert_string_equal(look(""), "404");
    assert_string_equal(look("socket"), "404");
    assert_string_equal(look("file"), "file");
    struct weir__file *file = get("file", 0);
    assert_int_equal(file->available, 1u << WEIR__CODING_IDENTITY);
    weir__file_release(&cache, file);
    if (mknod("device", S_IFCHR | 0644, makedev(1, 5)) == 0)
        assert_string_equal(look("device"), "404");
    else
        print_message("no device node made: not permitted\n");
    close(listener);
    weir__file_cache_dispose(&cache);
}

static void test_forbidden(void **state)
{
    (void)state;
    tree_write("file", "file", SMALL, OLD_S);
    assert_int_equal(chmod("file", 0), 0);
    assert_int_equal(mkdir("folder", 0700), 0);
    tree_write("folder/index.html", "file", SMALL, OLD_S);
    bool is_root = geteuid() == 0;
    if (is_root)
        assert_int_equal(seteuid(65534), 0);
    else
        assert_int_equal(chmod("folder", 0), 0);
    open_cache(".", 16, 16);
    assert_string_equal(look("file"), "403");
    assert_string_equal(look("folder/"), "403");
    weir__file_cache_dispose(&cache);
    if (is_root)
        assert_int_equal(seteuid(0), 0);
    else
        assert_int_equal(chmod("folder", 0700), 0);
}

/* Each change is unseen while the file is believed, and seen after. */
static void expect_change(const char *path, const char *before, const char *after)
{
    now_ns += BELIEF - 1;
    assert_string_equal(look(path), before);
    now_ns += 1;
    assert_string_equal(look(path), after);
}

static void test_changes(void **state)
{
    (void)state;
    static const size_t sizes[] = {SMALL, LARGE};
    open_cache(".", 16, 16);
    for (int i = 0; i < 2; i++) {
        assert_string_equal(look("file"), "404");
        tree_write("file", "made", sizes[i], OLD_S);
        expect_change("file", "404", "made");
        /* replaced by rename, with the same size and times but for the time of the change */
        tree_write("next", "moved", sizes[i], OLD_S);
        assert_int_equal(rename("next", "file"), 0);
        now_ns += BELIEF;
        assert_string_equal(look("file"), "move");
        /* changed in place: the same size, the same time of modification */
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL); /* a file system's clock ticks */
        tree_write("file", "edit", sizes[i], OLD_S);
        now_ns += BELIEF;
        assert_string_equal(look("file"), "edit");
        /* changed in place, with another time */
        tree_write("file", "again", sizes[i], OLD_S + 1);
        now_ns += BELIEF;
        assert_string_equal(look("file"), "agai");
        /* truncated */
        assert_int_equal(truncate("file", 2), 0);
        now_ns += BELIEF;
        assert_string_equal(look("file"), "ag");
        /* became a folder, went away */
        assert_int_equal(unlink("file"), 0);
        assert_int_equal(mkdir("file", 0755), 0);
        expect_change("file", "ag", "folder");
        assert_int_equal(rmdir("file"), 0);
        expect_change("file", "folder", "404");
        now_ns += BELIEF;
    }
    weir__file_cache_dispose(&cache);
}

/* The same size, the same times: what changed lately is read again. */
static void test_unsettled(void **state)
{
    (void)state;
    open_cache(".", 16, 16);
    wall_s = time(NULL);
    tree_write("file", "one!", SMALL, OLD_S);
    assert_string_equal(look("file"), "one!");
    struct weir__file *file = get("file", 0);
    assert_false(file->settled);
    weir__file_release(&cache, file);
    now_ns += BELIEF;
    wall_s += 60;
    file = get("file", 0);
    assert_true(file->settled);
    weir__file_release(&cache, file);
    weir__file_cache_dispose(&cache);
}

/* A response goes on with the file that it began with. */
static void test_in_use(void **state)
{
    (void)state;
    char text[4];
    tree_write("file", "old!", LARGE, OLD_S);
    open_cache(".", 16, 16);
    unsigned descriptors = open_descriptors();
    struct weir__file *old = get("file", 0);
    assert_int_equal(open_descriptors(), descriptors + 1);
    tree_write("next", "new!", LARGE, OLD_S);
    assert_int_equal(rename("next", "file"), 0);
    now_ns += BELIEF;
    struct weir__file *new = get("file", 0);
    assert_ptr_not_equal(old, new);
    assert_int_equal(pread(old->representations[0].descriptor, text, 4, 0), 4);
    assert_memory_equal(text, "old!", 4);
    assert_int_equal(open_descriptors(), descriptors + 2);
    weir__file_release(&cache, old);
    assert_int_equal(open_descriptors(), descriptors + 1);
    weir__file_release(&cache, new);
    assert_int_equal(open_descriptors(), descriptors + 1);
    weir__file_cache_dispose(&cache);
    assert_int_equal(open_descriptors(), descriptors - 1); /* the root is closed, too */
}

static void test_siblings(void **state)
{
    (void)state;
    tree_write("a.js", "plain", SMALL, OLD_S);
    tree_write("a.js.gz", "gzip", LARGE, OLD_S);
    tree_write("a.js.zst", "zstd", SMALL, OLD_S - 1); /* older than the file */
    open_cache(".", 16, 16);
    struct weir__file *file = get("a.js", 0);
    assert_int_equal(file->available, 1u << WEIR__CODING_IDENTITY | 1u << WEIR__CODING_GZIP);
    assert_int_equal(file->representations[WEIR__CODING_GZIP].size, LARGE);
    weir__file_release(&cache, file);
    /* one comes, one goes, one is touched */
    tree_write("a.js.br", "br", SMALL, OLD_S + 5);
    assert_int_equal(unlink("a.js.gz"), 0);
    tree_write("a.js.zst", "zstd", SMALL, OLD_S);
    now_ns += BELIEF;
    file = get("a.js", 0);
    assert_int_equal(file->available,
                     1u << WEIR__CODING_IDENTITY | 1u << WEIR__CODING_BR | 1u << WEIR__CODING_ZSTD);
    assert_memory_equal(file->representations[WEIR__CODING_BR].content, "br", 2);
    weir__file_release(&cache, file);
    /* the file itself is newer now than all of them but one */
    tree_write("a.js", "newer", SMALL, OLD_S + 1);
    now_ns += BELIEF;
    file = get("a.js", 0);
    assert_int_equal(file->available, 1u << WEIR__CODING_IDENTITY | 1u << WEIR__CODING_BR);
    weir__file_release(&cache, file);
    weir__file_cache_dispose(&cache);
}

/* Files are bounded, and so are paths that are not there; neither drives the other out. */
static void test_bounds(void **state)
{
    (void)state;
    char path[32];
    for (int i = 0; i < 6; i++) {
        snprintf(path, sizeof(path), "file%d", i);
        tree_write(path, path, LARGE, OLD_S);
    }
    open_cache(".", 3, 2);
    unsigned descriptors = open_descriptors();
    for (int i = 0; i < 100; i++) {
        snprintf(path, sizeof(path), "missing%d", i);
        look(path);
        snprintf(path, sizeof(path), "file%d", i % 6);
        look(path);
        look("file0"); /* in constant use, so it stays */
    }
    assert_int_equal(cache.opened.count, 3);
    assert_int_equal(cache.others.count, 2);
    assert_int_equal(cache.in_use, 0);
    assert_int_equal(open_descriptors(), descriptors + 3);
    assert_string_equal(cache.opened.newest->path, "file0");

    /* One that is in use may leave the table; it stays open until it is released. */
    struct weir__file *used = get("file0", 0);
    for (int i = 1; i < 6; i++) {
        snprintf(path, sizeof(path), "file%d", i);
        look(path);
    }
    assert_false(used->in_table);
    assert_int_equal(open_descriptors(), descriptors + 4);
    weir__file_release(&cache, used);
    assert_int_equal(open_descriptors(), descriptors + 3);

    /* Those in memory are bounded apart. */
    for (int i = 0; i < 40; i++) {
        snprintf(path, sizeof(path), "small%d", i);
        tree_write(path, path, SMALL, OLD_S);
        look(path);
    }
    assert_int_equal(cache.files.count, 16);
    assert_string_equal(cache.files.oldest->path, "small24");
    assert_int_equal(cache.opened.count, 3);
    weir__file_cache_dispose(&cache);
}

static const char *content_of(struct weir__file *file)
{
    return weir__file_cache_content(&cache, file, WEIR__CODING_IDENTITY, now_ns);
}

/* "text" of the content that is in memory, "" if it is not. */
static const char *look_hot(const char *path)
{
    static char text[5];
    struct weir__file *file = get(path, 0);
    const char *content = content_of(file);
    memset(text, 0, sizeof(text));
    if (content)
        memcpy(text, content, 4);
    weir__file_release(&cache, file);
    return text;
}

/* An open file's content is read for those that ask for it, the second time. */
static void test_content(void **state)
{
    (void)state;
    tree_write("file", "file", LARGE, OLD_S);
    tree_write("small", "small", SMALL, OLD_S);
    tree_write("huge", "huge", WEIR__FILE_HOT_MAX + 1, OLD_S);
    open_cache(".", 16, 16);
    struct weir__file *file = get("file", 0);
    assert_null(content_of(file));
    const char *content = content_of(file);
    assert_non_null(content);
    assert_ptr_equal(content_of(file), content);
    for (size_t i = 0; i < LARGE; i++)
        assert_int_equal(content[i], "file"[i % 4]);
    /* The descriptor is for those that do not ask. */
    assert_true(file->representations[0].descriptor >= 0);
    assert_int_equal(cache.hot_bytes, LARGE);
    weir__file_release(&cache, file);
    assert_string_equal(look_hot("file"), "file");
    assert_string_equal(look_hot("small"), "smal"); /* as ever */
    assert_string_equal(look_hot("huge"), "");
    assert_string_equal(look_hot("huge"), "");
    assert_int_equal(cache.hot_bytes, LARGE);
    weir__file_cache_dispose(&cache);
    assert_int_equal(cache.hot_bytes, 0);
}

/* What a response uses stays as it was; others see a change as soon as of any file. */
static void test_content_changes(void **state)
{
    (void)state;
    open_cache(".", 16, 16);
    static const char *const how[] = {"replaced", "edited", "cut", "longer"};
    for (int i = 0; i < 4; i++) {
        tree_write("file", "old!", LARGE, OLD_S);
        now_ns += BELIEF;
        look_hot("file");
        struct weir__file *used = get("file", 0);
        const char *content = content_of(used);
        assert_non_null(content);
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL); /* a file system's clock ticks */
        const char *name = i == 0 ? "next" : "file";
        tree_write(name, "new!", i == 2 ? LARGE - 1 + SMALL : i == 3 ? LARGE + 8 : LARGE, OLD_S);
        if (i == 0)
            assert_int_equal(rename("next", "file"), 0);
        print_message("%s\n", how[i]);
        assert_string_equal(look_hot("file"), "old!");
        now_ns += BELIEF;
        assert_string_equal(look_hot("file"), "");
        assert_string_equal(look_hot("file"), "new!");
        for (size_t at = 0; at < LARGE; at++)
            assert_int_equal(content[at], "old!"[at % 4]);
        weir__file_release(&cache, used);
    }
    assert_string_equal(look_hot("file"), "new!");
    assert_int_equal(cache.hot_bytes, LARGE + 8);
    weir__file_cache_dispose(&cache);
}

/* A file that is not the one that was opened any more, or is being written to, is not kept. */
static void test_content_of_changed(void **state)
{
    (void)state;
    static const off_t sizes[] = {LARGE, 2, LARGE + 8};
    open_cache(".", 16, 16);
    for (int i = 0; i < 3; i++) {
        tree_write("file", "old!", LARGE, OLD_S);
        now_ns += BELIEF;
        struct weir__file *file = get("file", 0);
        assert_null(content_of(file));
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
        int descriptor = open("file", O_WRONLY | O_CLOEXEC);
        assert_int_equal(pwrite(descriptor, "new!", 4, 0), 4);
        assert_int_equal(ftruncate(descriptor, sizes[i]), 0);
        close(descriptor);
        assert_null(content_of(file));
        assert_int_equal(cache.hot_bytes, 0);
        weir__file_release(&cache, file);
    }
    weir__file_cache_dispose(&cache);
}

/* A budget bounds content; whoever nobody asked for lately makes room, unless a response uses it. */
static void test_content_budget(void **state)
{
    (void)state;
    static const char *const names[] = {"a...", "b...", "c...", "d...", "e..."};
    for (int i = 0; i < 5; i++)
        tree_write(names[i], names[i], LARGE, OLD_S);
    open_cache(".", 16, 16);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 2; j++)
            look_hot(names[i]);
    assert_int_equal(cache.hot_bytes, HOT);
    assert_string_equal(look_hot("c..."), "c...");
    assert_string_equal(look_hot("d..."), ""); /* all others were asked for lately */

    now_ns += BELIEF / 2;
    look_hot("b...");
    struct weir__file *used = get("a...", 0);
    const char *content = content_of(used);
    now_ns += BELIEF / 2;
    assert_string_equal(look_hot("d..."), "d..."); /* in the place of c, the oldest */
    assert_string_equal(look_hot("e..."), "");
    assert_string_equal(look_hot("c..."), "");
    assert_int_equal(cache.hot_bytes, HOT);
    now_ns += BELIEF;
    assert_string_equal(look_hot("e..."), "e..."); /* in the place of b: a is in use */
    assert_memory_equal(content, "a...", 4);
    assert_int_equal(cache.hot_bytes, HOT);

    /* What left the table counts for as long as it is there. */
    assert_int_equal(unlink("a..."), 0);
    now_ns += BELIEF;
    assert_string_equal(look("a..."), "404");
    assert_false(used->in_table);
    assert_int_equal(cache.hot_bytes, HOT);
    assert_memory_equal(content, "a...", 4);
    weir__file_release(&cache, used);
    assert_int_equal(cache.hot_bytes, HOT - LARGE);
    weir__file_cache_dispose(&cache);
    assert_int_equal(cache.hot_bytes, 0);
}

static rlim_t limit_descriptors(rlim_t limit)
{
    struct rlimit rlimit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &rlimit), 0);
    rlim_t before = rlimit.rlim_cur;
    rlimit.rlim_cur = limit;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &rlimit), 0);
    return before;
}

static void test_out_of_descriptors(void **state)
{
    (void)state;
    tree_write("one", "one!", LARGE, OLD_S);
    tree_write("two", "two!", LARGE, OLD_S);
    open_cache(".", 16, 16);
    assert_string_equal(look("one"), "one!");
    int next = dup(0); /* the lowest that is free */
    close(next);
    rlim_t before = limit_descriptors((rlim_t)next + 1);

    /* Two are needed, for the file and to look for siblings: an idle file makes room. */
    assert_string_equal(look("two"), "two!");
    assert_int_equal(cache.opened.count, 1);
    /* One in use does not, but it serves on, unchecked. */
    struct weir__file *used = get("two", 0);
    int last = dup(0);
    assert_true(last >= 0);
    get("one", -503);
    get("missing", -503);
    now_ns += 10 * BELIEF;
    assert_string_equal(look("two"), "two!");
    weir__file_release(&cache, used);

    close(last);
    limit_descriptors(before);
    assert_string_equal(look("one"), "one!");
    assert_string_equal(look("missing"), "404");
    weir__file_cache_dispose(&cache);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    tree_write("a", "plain", SMALL, OLD_S);
    tree_write("a.gz", "gzip", LARGE, OLD_S);
    tree_write("a.br", "br", SMALL, OLD_S);
    open_cache(".", 16, 16);
    count_allocations();
    unsigned descriptors = open_descriptors();
    unsigned failed = 0;
    for (unsigned nth = 1; nth < 50; nth++) {
        struct weir__file *file;
        allocations = 0;
        allocation_to_fail = nth;
        int status = weir__file_load(&file, cache.root, (struct weir__text){"a", 1}, wall_s);
        if (status == 0) {
            weir__file_free(file);
            break;
        }
        assert_int_equal(status, -503);
        assert_int_equal(open_descriptors(), descriptors);
        failed++;
    }
    allocation_to_fail = 0;
    /* the file, two contents, three texts of fields */
    assert_int_equal(failed, 6);

    /* Without memory for its content an open file stays what it is. */
    struct weir__file *file = get("a", 0);
    assert_null(weir__file_cache_content(&cache, file, WEIR__CODING_GZIP, now_ns));
    allocations = 0;
    allocation_to_fail = 1;
    assert_null(weir__file_cache_content(&cache, file, WEIR__CODING_GZIP, now_ns));
    assert_int_equal(allocations, 1);
    allocation_to_fail = 0;
    assert_int_equal(cache.hot_bytes, 0);
    assert_non_null(weir__file_cache_content(&cache, file, WEIR__CODING_GZIP, now_ns));
    assert_int_equal(cache.hot_bytes, LARGE);
    weir__file_release(&cache, file);

    int root = dup(cache.root);
    struct weir__file_cache other;
    struct weir__file_cache_bounds bounds = {16, 16, 16, HOT};
    allocations = 0;
    allocation_to_fail = 1;
    assert_int_equal(weir__file_cache_init(&other, root, seed, &bounds), WEIR_ENOMEM);
    allocation_to_fail = 0;
    assert_int_equal(fcntl(root, F_GETFD), -1);
    weir__file_cache_dispose(&cache);
}

static void test_root(void **state)
{
    (void)state;
    tree_write("file", "x", SMALL, OLD_S);
    assert_int_equal(weir__root_open("missing"), WEIR_EINVAL);
    assert_int_equal(weir__root_open("file"), WEIR_EINVAL);
    assert_int_equal(weir__root_open(""), WEIR_EINVAL);
}

/* Without openat2 nothing is served at all. */
static void test_without_openat2(void **state)
{
    (void)state;
    static const int errors[] = {ENOSYS, EPERM};
    for (int i = 0; i < 2; i++) {
        pid_t child = fork();
        if (child == 0) {
            struct sock_filter filter[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)errors[i]),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
            };
            struct sock_fprog program = {.len = 4, .filter = filter};
            if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
                prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
                _exit(77);
            _exit(weir__root_open(".") == WEIR_ENOTSUP ? 0 : 1);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == 77) {
            printf("SKIP: no seccomp filter may be set up here\n");
            skip();
        }
        assert_int_equal(WEXITSTATUS(status), 0);
    }
}

#define tree_test(function) cmocka_unit_test_setup_teardown(function, tree_make, tree_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        tree_test(test_kinds),
        tree_test(test_escapes),
        tree_test(test_magic_links),
        tree_test(test_not_regular),
        tree_test(test_forbidden),
        tree_test(test_changes),
        tree_test(test_unsettled),
        tree_test(test_in_use),
        tree_test(test_siblings),
        tree_test(test_bounds),
        tree_test(test_content),
        tree_test(test_content_changes),
        tree_test(test_content_of_changed),
        tree_test(test_content_budget),
        tree_test(test_out_of_descriptors),
        tree_test(test_out_of_memory),
        tree_test(test_root),
        tree_test(test_without_openat2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
