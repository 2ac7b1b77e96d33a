/* SPDX-License-Identifier: Apache-2.0 */
#include "http/conditional.h"

#include <string.h>

#include "http/date.h"

enum comparison {
    STRONG, /* both are strong, and the same */
    WEAK,   /* the same but for W/ */
};

static void skip(struct weir__text *text, size_t length)
{
    text->data += length;
    text->length -= length;
}

static bool take_weak_mark(struct weir__text *text)
{
    if (text->length < 2 || memcmp(text->data, "W/", 2) != 0)
        return false;
    skip(text, 2);
    return true;
}

/* Takes an entity-tag (RFC 9110 8.8.3). Returns false if there is none. */
static bool take_etag(struct weir__text *text, bool *weak, struct weir__text *opaque)
{
    *weak = take_weak_mark(text);
    if (text->length == 0 || *text->data != '"')
        return false;
    size_t end = 1;
    while (end < text->length && text->data[end] != '"') {
        unsigned char byte = (unsigned char)text->data[end++];
        if (byte <= ' ' || byte == 0x7f)
            return false;
    }
    if (end == text->length)
        return false;
    *opaque = (struct weir__text){text->data, end + 1};
    skip(text, end + 1);
    return true;
}

static void skip_separators(struct weir__text *text)
{
    while (text->length > 0 && strchr(" \t,", *text->data) && *text->data)
        skip(text, 1);
}

static bool list_matches(struct weir__text list, struct weir__text etag, enum comparison comparison)
{
    bool etag_weak = take_weak_mark(&etag);
    for (skip_separators(&list); list.length > 0; skip_separators(&list)) {
        bool weak;
        struct weir__text opaque;
        if (!take_etag(&list, &weak, &opaque))
            return false;
        if (comparison == STRONG && (weak || etag_weak))
            continue;
        if (opaque.length == etag.length && memcmp(opaque.data, etag.data, etag.length) == 0)
            return true;
    }
    return false;
}

/* Whether any line of an If-Match or If-None-Match field names the representation. */
static bool field_matches(const struct weir__request *request, enum weir__field field,
                          struct weir__text etag, enum comparison comparison)
{
    for (const struct weir__header *header = weir__request_next(request, field, NULL); header;
         header = weir__request_next(request, field, header)) {
        if (header->value.length == 1 && *header->value.data == '*')
            return true;
        if (list_matches(header->value, etag, comparison))
            return true;
    }
    return false;
}

/* A field's date. Returns false if the field is not there, or is to be ignored. */
static bool field_date(const struct weir__request *request, enum weir__field field, int64_t now_s,
                       int64_t *unix_s)
{
    const struct weir__text *value = weir__request_value(request, field);
    return value && !weir__request_repeated(request, field) &&
           weir__date_parse(*value, now_s, unix_s);
}

enum weir__condition weir__condition_evaluate(const struct weir__request *request,
                                              const struct weir__validators *validators,
                                              int64_t now_s)
{
    bool dated = validators->modified_s != WEIR__MODIFIED_UNKNOWN;
    int64_t since_s;

    if (weir__request_value(request, WEIR__FIELD_IF_MATCH)) {
        if (!field_matches(request, WEIR__FIELD_IF_MATCH, validators->etag, STRONG))
            return WEIR__CONDITION_FAILED;
    } else if (dated && field_date(request, WEIR__FIELD_IF_UNMODIFIED_SINCE, now_s, &since_s) &&
               validators->modified_s > since_s) {
        return WEIR__CONDITION_FAILED;
    }

    if (weir__request_value(request, WEIR__FIELD_IF_NONE_MATCH)) {
        if (field_matches(request, WEIR__FIELD_IF_NONE_MATCH, validators->etag, WEAK))
            return WEIR__CONDITION_NOT_MODIFIED;
    } else if (dated && field_date(request, WEIR__FIELD_IF_MODIFIED_SINCE, now_s, &since_s) &&
               validators->modified_s <= since_s) {
        return WEIR__CONDITION_NOT_MODIFIED;
    }
    return WEIR__CONDITION_PROCEED;
}

bool weir__condition_allows_range(const struct weir__request *request,
                                  const struct weir__validators *validators, int64_t now_s)
{
    const struct weir__text *value = weir__request_value(request, WEIR__FIELD_IF_RANGE);
    if (!value)
        return true;
    if (weir__request_repeated(request, WEIR__FIELD_IF_RANGE) || value->length == 0)
        return false;
    if (*value->data == '"' || *value->data == 'W') {
        /* "Wed" begins with a W, too. */
        struct weir__text rest = *value, opaque;
        bool weak;
        if (take_etag(&rest, &weak, &opaque))
            return rest.length == 0 && list_matches(*value, validators->etag, STRONG);
    }
    /* A client sends only a date that it knows to be strong, and it has to be the very one
     * (13.1.5). */
    int64_t unix_s;
    return validators->modified_s != WEIR__MODIFIED_UNKNOWN &&
           field_date(request, WEIR__FIELD_IF_RANGE, now_s, &unix_s) &&
           unix_s == validators->modified_s;
}
