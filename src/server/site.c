/* SPDX-License-Identifier: Apache-2.0 */
#include "server/site.h"

#include <assert.h>
#include <string.h>

#include <weir/error.h>

#include "core/memory.h"
#include "http/conditional.h"
#include "http/date.h"
#include "http/mime.h"
#include "http/range.h"
#include "http/target.h"
#include "http/writer.h"
#include "server/file_cache.h"
#include "server/hash.h"

#define SECOND_NS UINT64_C(1000000000)

#define OPEN_FILES_DEFAULT 256
#define FILES_DEFAULT      1024
#define OTHERS_DEFAULT     1024
#define HOT_BYTES_DEFAULT  (UINT64_C(32) << 20) /* as many open files of 128 KiB as there may be */

/* Everything in a redirect's header but the path and the query. */
#define REDIRECT_FIXED_MAX 512

/* 16 hex digits: a hash under the site's seed, so that no file can have the boundary in it but by
 * luck. */
#define BOUNDARY_LENGTH 16

/* A part's header: 49 fixed bytes, the boundary, the type, three numbers of up to 20 digits. */
#define PART_HEADER_MAX (49 + BOUNDARY_LENGTH + WEIR__MIME_TYPE_MAX + 3 * 20)

_Static_assert(2 * WEIR__RANGES_MAX + 1 == WEIR__RESPONSE_SEGMENTS_MAX,
               "a part has a header and a piece of the file, and a boundary ends the last");

struct weir__site {
    struct weir__file_cache cache;
    struct weir__date_cache date;
    uint64_t boundaries; /* how many were made */
};

/* One request on its way to its response. */
struct exchange {
    struct weir__site *site;
    const struct weir__request *request; /* NULL: its head could not be read */
    const struct weir__moment *moment;
    struct weir__response *response;
};

void weir__site_options_init(struct weir__site_options *options)
{
    *options = (struct weir__site_options){
        .open_files_max = OPEN_FILES_DEFAULT,
        .files_max = FILES_DEFAULT,
        .others_max = OTHERS_DEFAULT,
        .hot_bytes_max = HOT_BYTES_DEFAULT,
    };
}

int weir__site_new(struct weir__site **site, const char *root,
                   const struct weir__site_options *options)
{
    if (options->open_files_max == 0 || options->files_max == 0 || options->others_max == 0)
        return WEIR_EINVAL;
    struct weir__file_cache_bounds bounds = {
        .opened_max = options->open_files_max,
        .files_max = options->files_max,
        .others_max = options->others_max,
        .hot_bytes_max = options->hot_bytes_max,
    };
    struct weir__site *made = weir__allocate_zeroed(1, sizeof(*made));
    if (!made)
        return WEIR_ENOMEM;
    weir__date_cache_init(&made->date);
    int error = weir__root_open(root);
    if (error >= 0)
        error = weir__file_cache_init(&made->cache, error, options->seed, &bounds);
    if (error < 0) {
        weir__release(made);
        return error;
    }
    *site = made;
    return 0;
}

void weir__site_free(struct weir__site *site)
{
    if (!site)
        return;
    weir__file_cache_dispose(&site->cache);
    weir__release(site);
}

/* Begins a header: `line` is "HTTP/1.1 200 OK". */
static struct weir__writer begin_header(struct exchange *exchange, unsigned status,
                                        const char *line, char *buffer, size_t size)
{
    struct weir__writer writer = {buffer, buffer + size};
    int64_t wall_s = (int64_t)(exchange->moment->wall_ns / SECOND_NS);
    exchange->response->status = status;
    exchange->response->header = buffer;
    weir__write_string(&writer, line);
    weir__write_string(&writer, "\r\nServer: weir\r\nDate: ");
    weir__write(&writer, (struct weir__text){weir__date_cache_get(&exchange->site->date, wall_s),
                                             WEIR__DATE_LENGTH});
    weir__write_string(&writer, "\r\n");
    return writer;
}

/* RFC 9112 9.3: HTTP/1.1 persists unless told otherwise, HTTP/1.0 the other way round. */
static void end_header(struct exchange *exchange, struct weir__writer *writer)
{
    const struct weir__request *request = exchange->request;
    if (!exchange->moment->keep_alive)
        weir__write_string(writer, "Connection: close\r\n");
    else if (request && request->version_major == 1 && request->version_minor == 0)
        weir__write_string(writer, "Connection: keep-alive\r\n");
    weir__write_string(writer, "\r\n");
    exchange->response->header_bytes = (size_t)(writer->at - exchange->response->header);
}

static bool wants_body(const struct exchange *exchange)
{
    return !exchange->request || exchange->request->method != WEIR__METHOD_HEAD;
}

static void set_single_segment(struct exchange *exchange, struct weir__segment segment)
{
    struct weir__response *response = exchange->response;
    if (!wants_body(exchange) || segment.length == 0)
        return;
    response->segment = segment;
    response->segments = &response->segment;
    response->segment_count = 1;
    response->body_bytes = segment.length;
}

struct page {
    unsigned status;
    const char *line, *body;
};

static const struct page pages[] = {
    {400, "HTTP/1.1 400 Bad Request", "400 Bad Request: the request could not be understood.\n"},
    {403, "HTTP/1.1 403 Forbidden", "403 Forbidden: this may not be read.\n"},
    {404, "HTTP/1.1 404 Not Found", "404 Not Found: there is nothing at this address.\n"},
    {405, "HTTP/1.1 405 Method Not Allowed",
     "405 Method Not Allowed: files can be read with GET and HEAD.\n"},
    {406, "HTTP/1.1 406 Not Acceptable",
     "406 Not Acceptable: there is no version in an encoding that the request accepts.\n"},
    {408, "HTTP/1.1 408 Request Timeout", "408 Request Timeout: the request took too long.\n"},
    {412, "HTTP/1.1 412 Precondition Failed",
     "412 Precondition Failed: the file is not the one that the request expects.\n"},
    {413, "HTTP/1.1 413 Content Too Large", "413 Content Too Large: the body is too long.\n"},
    {414, "HTTP/1.1 414 URI Too Long", "414 URI Too Long: the address is too long.\n"},
    {416, "HTTP/1.1 416 Range Not Satisfiable",
     "416 Range Not Satisfiable: the file has no such bytes.\n"},
    {417, "HTTP/1.1 417 Expectation Failed",
     "417 Expectation Failed: only 100-continue can be expected.\n"},
    {431, "HTTP/1.1 431 Request Header Fields Too Large",
     "431 Request Header Fields Too Large: the header is too long.\n"},
    {500, "HTTP/1.1 500 Internal Server Error",
     "500 Internal Server Error: the server could not read the file.\n"},
    {501, "HTTP/1.1 501 Not Implemented", "501 Not Implemented: the method is not known.\n"},
    {503, "HTTP/1.1 503 Service Unavailable",
     "503 Service Unavailable: the server is too busy. Try again soon.\n"},
    {505, "HTTP/1.1 505 HTTP Version Not Supported",
     "505 HTTP Version Not Supported: this server speaks HTTP/1.1 and HTTP/1.0.\n"},
};

static const struct page *find_page(unsigned status)
{
    const struct page *internal = NULL;
    for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
        if (pages[i].status == status)
            return &pages[i];
        if (pages[i].status == 500)
            internal = &pages[i];
    }
    return internal;
}

/* Writes an error up to its last field, which the caller may add to. */
static struct weir__writer begin_error(struct exchange *exchange, unsigned status)
{
    const struct page *page = find_page(status);
    size_t length = strlen(page->body);
    struct weir__writer writer =
        begin_header(exchange, page->status, page->line, exchange->response->text,
                     sizeof(exchange->response->text));
    weir__write_string(&writer, "Content-Type: text/plain; charset=utf-8\r\nContent-Length: ");
    weir__write_number(&writer, length, 10);
    weir__write_string(&writer, "\r\n");
    set_single_segment(exchange,
                       (struct weir__segment){.data = page->body, .file = -1, .length = length});
    return writer;
}

static void put_allow(struct weir__writer *writer)
{
    weir__write_string(writer, "Allow: GET, HEAD, OPTIONS\r\n");
}

static void plan_error(struct exchange *exchange, unsigned status)
{
    struct weir__writer writer = begin_error(exchange, status);
    if (exchange->response->status == 405)
        put_allow(&writer);
    end_header(exchange, &writer);
}

static void plan_options(struct exchange *exchange)
{
    struct weir__writer writer =
        begin_header(exchange, 204, "HTTP/1.1 204 No Content", exchange->response->text,
                     sizeof(exchange->response->text));
    put_allow(&writer);
    end_header(exchange, &writer);
}

/* To the folder's path with its slash; the query is kept. */
static void plan_redirect(struct exchange *exchange, struct weir__text path)
{
    struct weir__response *response = exchange->response;
    struct weir__text query = exchange->request->query;
    char *buffer = response->text;
    size_t size = sizeof(response->text);
    size_t needed = REDIRECT_FIXED_MAX + WEIR__TARGET_ESCAPE_FACTOR * path.length + query.length;
    if (needed > size) {
        buffer = response->allocated = weir__allocate(needed);
        size = needed;
        if (!buffer) {
            plan_error(exchange, 503);
            return;
        }
    }
    struct weir__writer writer =
        begin_header(exchange, 301, "HTTP/1.1 301 Moved Permanently", buffer, size);
    /* A decoded path has no empty segment, so this never reads as "//host/". */
    weir__write_string(&writer, "Location: /");
    writer.at += weir__target_escape(path, writer.at);
    weir__write_string(&writer, "/");
    if (query.data) {
        weir__write_string(&writer, "?");
        weir__write(&writer, query);
    }
    weir__write_string(&writer, "\r\nContent-Length: 0\r\n");
    end_header(exchange, &writer);
}

/* A piece of a representation, from memory or from its file. */
static struct weir__segment piece(const struct exchange *exchange,
                                  const struct weir__representation *representation, uint64_t first,
                                  uint64_t length)
{
    bool open = representation->descriptor >= 0;
    if (representation->content && (!open || exchange->moment->encrypted))
        return (struct weir__segment){
            .data = representation->content + first, .file = -1, .length = length};
    return (struct weir__segment){
        .file = representation->descriptor, .offset = first, .length = length};
}

static void put_fields(struct weir__writer *writer,
                       const struct weir__representation *representation, size_t from)
{
    weir__write(writer, (struct weir__text){representation->fields + from,
                                            representation->fields_length - from});
}

static void plan_whole(struct exchange *exchange, const struct weir__representation *representation)
{
    struct weir__writer writer =
        begin_header(exchange, 200, "HTTP/1.1 200 OK", exchange->response->text,
                     sizeof(exchange->response->text));
    put_fields(&writer, representation, 0);
    end_header(exchange, &writer);
    set_single_segment(exchange, piece(exchange, representation, 0, representation->size));
}

static void plan_not_modified(struct exchange *exchange,
                              const struct weir__representation *representation)
{
    struct weir__writer writer =
        begin_header(exchange, 304, "HTTP/1.1 304 Not Modified", exchange->response->text,
                     sizeof(exchange->response->text));
    put_fields(&writer, representation, representation->validators_at);
    end_header(exchange, &writer);
}

static void plan_unsatisfiable(struct exchange *exchange,
                               const struct weir__representation *representation)
{
    struct weir__writer writer = begin_error(exchange, 416);
    weir__write_string(&writer, "Content-Range: bytes */");
    weir__write_number(&writer, representation->size, 10);
    weir__write_string(&writer, "\r\n");
    end_header(exchange, &writer);
}

static void put_content_range(struct weir__writer *writer, const struct weir__range *range,
                              uint64_t size)
{
    weir__write_string(writer, "Content-Range: bytes ");
    weir__write_number(writer, range->first, 10);
    weir__write_string(writer, "-");
    weir__write_number(writer, range->first + range->length - 1, 10);
    weir__write_string(writer, "/");
    weir__write_number(writer, size, 10);
    weir__write_string(writer, "\r\n");
}

static void plan_range(struct exchange *exchange, const struct weir__representation *representation,
                       const struct weir__range *range)
{
    struct weir__writer writer =
        begin_header(exchange, 206, "HTTP/1.1 206 Partial Content", exchange->response->text,
                     sizeof(exchange->response->text));
    weir__write_string(&writer, "Content-Length: ");
    weir__write_number(&writer, range->length, 10);
    weir__write_string(&writer, "\r\n");
    put_content_range(&writer, range, representation->size);
    put_fields(&writer, representation, representation->type_at);
    end_header(exchange, &writer);
    set_single_segment(exchange, piece(exchange, representation, range->first, range->length));
}

static void make_boundary(struct weir__site *site, char boundary[BOUNDARY_LENGTH])
{
    static const char digits[] = "0123456789abcdef";
    uint64_t number = site->boundaries++;
    uint64_t hash = weir__hash(site->cache.seed, &number, sizeof(number));
    for (int i = 0; i < BOUNDARY_LENGTH; i++, hash >>= 4)
        boundary[i] = digits[hash & 15];
}

/* The segments of a multipart body, and the text that they point to. */
struct parts {
    struct weir__segment segments[WEIR__RESPONSE_SEGMENTS_MAX];
    unsigned segment_count;
    uint64_t body_bytes;
    char text[WEIR__RANGES_MAX * PART_HEADER_MAX + BOUNDARY_LENGTH + 8];
};

static void add_segment(struct parts *parts, struct weir__segment segment)
{
    parts->segments[parts->segment_count++] = segment;
    parts->body_bytes += segment.length;
}

/* RFC 9110 14.6 and RFC 2046 5.1.1. */
static void build_parts(const struct exchange *exchange, struct parts *parts,
                        struct weir__text boundary, struct weir__text type,
                        const struct weir__representation *representation,
                        const struct weir__ranges *ranges)
{
    struct weir__writer writer = {parts->text, parts->text + sizeof(parts->text)};
    parts->segment_count = 0;
    parts->body_bytes = 0;
    for (unsigned i = 0; i < ranges->count; i++) {
        const char *start = writer.at;
        if (i > 0)
            weir__write_string(&writer, "\r\n");
        weir__write_string(&writer, "--");
        weir__write(&writer, boundary);
        weir__write_string(&writer, "\r\nContent-Type: ");
        weir__write(&writer, type);
        weir__write_string(&writer, "\r\n");
        put_content_range(&writer, &ranges->ranges[i], representation->size);
        weir__write_string(&writer, "\r\n");
        add_segment(parts, (struct weir__segment){
                               .data = start, .file = -1, .length = (uint64_t)(writer.at - start)});
        add_segment(parts, piece(exchange, representation, ranges->ranges[i].first,
                                 ranges->ranges[i].length));
    }
    const char *start = writer.at;
    weir__write_string(&writer, "\r\n--");
    weir__write(&writer, boundary);
    weir__write_string(&writer, "--\r\n");
    add_segment(parts, (struct weir__segment){
                           .data = start, .file = -1, .length = (uint64_t)(writer.at - start)});
}

static void plan_ranges(struct exchange *exchange, const struct weir__file *file,
                        const struct weir__representation *representation,
                        const struct weir__ranges *ranges)
{
    struct weir__response *response = exchange->response;
    struct parts *parts = weir__allocate(sizeof(*parts));
    if (!parts) {
        plan_whole(exchange, representation); /* a server may ignore Range (RFC 9110 14.2) */
        return;
    }
    response->allocated = parts;
    char mark[BOUNDARY_LENGTH];
    make_boundary(exchange->site, mark);
    struct weir__text boundary = {mark, sizeof(mark)};
    build_parts(exchange, parts, boundary, file->type, representation, ranges);

    struct weir__writer writer = begin_header(exchange, 206, "HTTP/1.1 206 Partial Content",
                                              response->text, sizeof(response->text));
    weir__write_string(&writer, "Content-Length: ");
    weir__write_number(&writer, parts->body_bytes, 10);
    weir__write_string(&writer, "\r\nContent-Type: multipart/byteranges; boundary=");
    weir__write(&writer, boundary);
    weir__write_string(&writer, "\r\n");
    put_fields(&writer, representation, representation->features_at);
    end_header(exchange, &writer);
    response->segments = parts->segments;
    response->segment_count = parts->segment_count;
    response->body_bytes = parts->body_bytes;
}

/* Whole or in part: what the Range field asks for, if it has a say (RFC 9110 14.2). */
static void plan_content(struct exchange *exchange, const struct weir__file *file,
                         const struct weir__representation *representation,
                         const struct weir__validators *validators, int64_t wall_s)
{
    const struct weir__request *request = exchange->request;
    const struct weir__text *value = weir__request_value(request, WEIR__FIELD_RANGE);
    struct weir__ranges ranges;
    enum weir__range_outcome outcome = WEIR__RANGE_IGNORED;
    if (value && request->method == WEIR__METHOD_GET &&
        !weir__request_repeated(request, WEIR__FIELD_RANGE) &&
        weir__condition_allows_range(request, validators, wall_s))
        outcome = weir__range_parse(*value, representation->size, &ranges);

    if (outcome == WEIR__RANGE_IGNORED)
        plan_whole(exchange, representation);
    else if (outcome == WEIR__RANGE_UNSATISFIABLE)
        plan_unsatisfiable(exchange, representation);
    else if (ranges.count == 1)
        plan_range(exchange, representation, &ranges.ranges[0]);
    else
        plan_ranges(exchange, file, representation, &ranges);
}

static void plan_regular(struct exchange *exchange, struct weir__file *file)
{
    int coding = weir__coding_choose(exchange->request, file->available);
    if (coding == WEIR__CODING_NONE) {
        plan_error(exchange, 406);
        return;
    }
    const struct weir__representation *representation = &file->representations[coding];
    struct weir__validators validators = {representation->etag, file->modified_s};
    int64_t wall_s = (int64_t)(exchange->moment->wall_ns / SECOND_NS);
    switch (weir__condition_evaluate(exchange->request, &validators, wall_s)) {
    case WEIR__CONDITION_FAILED:
        plan_error(exchange, 412);
        break;
    case WEIR__CONDITION_NOT_MODIFIED:
        plan_not_modified(exchange, representation);
        break;
    case WEIR__CONDITION_PROCEED:
        if (exchange->moment->encrypted && wants_body(exchange))
            weir__file_cache_content(&exchange->site->cache, file, (enum weir__coding)coding,
                                     exchange->moment->now_ns);
        plan_content(exchange, file, representation, &validators, wall_s);
        break;
    }
}

static void plan_path(struct exchange *exchange)
{
    struct weir__site *site = exchange->site;
    const struct weir__moment *moment = exchange->moment;
    char decoded[WEIR__TARGET_PATH_MAX];
    size_t length;
    int status = weir__target_decode(exchange->request->path, decoded, &length);
    struct weir__file *file;
    struct weir__text path = {decoded, length};
    if (status == 0)
        status = weir__file_cache_get(&site->cache, path, moment->now_ns,
                                      (int64_t)(moment->wall_ns / SECOND_NS), &file);
    if (status != 0) {
        plan_error(exchange, (unsigned)-status);
        return;
    }
    exchange->response->file = file;
    switch (file->kind) {
    case WEIR__FILE_REGULAR:
        plan_regular(exchange, file);
        break;
    case WEIR__FILE_FOLDER:
        plan_redirect(exchange, path);
        break;
    case WEIR__FILE_NONE:
        plan_error(exchange, file->status);
        break;
    }
}

static struct exchange begin_exchange(struct weir__site *site, const struct weir__request *request,
                                      const struct weir__moment *moment,
                                      struct weir__response *response)
{
    response->keep_alive = moment->keep_alive;
    response->segments = NULL;
    response->segment_count = 0;
    response->body_bytes = 0;
    response->site = site;
    response->file = NULL;
    response->allocated = NULL;
    return (struct exchange){site, request, moment, response};
}

void weir__site_respond(struct weir__site *site, const struct weir__request *request,
                        const struct weir__moment *moment, struct weir__response *response)
{
    struct exchange exchange = begin_exchange(site, request, moment, response);
    switch (request->method) {
    case WEIR__METHOD_GET:
    case WEIR__METHOD_HEAD:
        if (request->path.length > 0)
            plan_path(&exchange);
        else
            plan_error(&exchange, 400);
        break;
    case WEIR__METHOD_OPTIONS:
        plan_options(&exchange);
        break;
    case WEIR__METHOD_OTHER:
        plan_error(&exchange, 501);
        break;
    default:
        plan_error(&exchange, 405);
        break;
    }
}

void weir__site_error(struct weir__site *site, unsigned status, const struct weir__request *request,
                      const struct weir__moment *moment, struct weir__response *response)
{
    struct exchange exchange = begin_exchange(site, request, moment, response);
    plan_error(&exchange, status);
}

void weir__response_dispose(struct weir__response *response)
{
    if (response->file)
        weir__file_release(&response->site->cache, response->file);
    weir__release(response->allocated);
    response->file = NULL;
    response->allocated = NULL;
}
