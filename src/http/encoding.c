/* SPDX-License-Identifier: Apache-2.0 */
#include "http/encoding.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

#define WEIGHT_ONE     1000 /* weights have at most three decimals (RFC 9110 12.4.2) */
#define WEIGHT_UNKNOWN (-1)

static const struct {
    struct weir__text name;
    const char *suffix;
} codings[WEIR__CODING_COUNT] = {
    [WEIR__CODING_IDENTITY] = {{"identity", 8}, ""},
    [WEIR__CODING_GZIP] = {{"gzip", 4}, ".gz"},
    [WEIR__CODING_ZSTD] = {{"zstd", 4}, ".zst"},
    [WEIR__CODING_BR] = {{"br", 2}, ".br"},
};

const char *weir__coding_name(enum weir__coding coding)
{
    return codings[coding].name.data;
}

const char *weir__coding_suffix(enum weir__coding coding)
{
    return codings[coding].suffix;
}

/* What the request says of each coding; the last entry is that of "*". */
struct weights {
    int of[WEIR__CODING_COUNT + 1];
};

static struct weir__text trim(struct weir__text text)
{
    while (text.length > 0 && (*text.data == ' ' || *text.data == '\t')) {
        text.data++;
        text.length--;
    }
    while (text.length > 0 &&
           (text.data[text.length - 1] == ' ' || text.data[text.length - 1] == '\t'))
        text.length--;
    return text;
}

/* Takes what stands before `separator`, trimmed, and the separator, off the front of `text`. */
static struct weir__text split(struct weir__text *text, char separator)
{
    const char *end = memchr(text->data, separator, text->length);
    size_t length = end ? (size_t)(end - text->data) : text->length;
    struct weir__text front = {text->data, length};
    size_t taken = end ? length + 1 : length;
    text->data += taken;
    text->length -= taken;
    return trim(front);
}

static bool equals(struct weir__text text, struct weir__text name)
{
    return text.length == name.length && strncasecmp(text.data, name.data, name.length) == 0;
}

/* Reads "q=0.5" in thousandths. Returns WEIGHT_UNKNOWN if it is malformed. */
static int weight_parse(struct weir__text text)
{
    if (text.length < 3 || text.length > 7 || (text.data[0] != 'q' && text.data[0] != 'Q') ||
        text.data[1] != '=' || (text.data[2] != '0' && text.data[2] != '1'))
        return WEIGHT_UNKNOWN;
    int weight = text.data[2] == '1' ? WEIGHT_ONE : 0;
    if (text.length > 3 && text.data[3] != '.')
        return WEIGHT_UNKNOWN;
    int unit = WEIGHT_ONE / 10;
    for (size_t i = 4; i < text.length; i++, unit /= 10) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return WEIGHT_UNKNOWN;
        weight += (text.data[i] - '0') * unit;
    }
    return weight <= WEIGHT_ONE ? weight : WEIGHT_UNKNOWN;
}

/* Notes one list element; one that is malformed, or of a coding that is not ours, is passed over.
 */
static void weigh(struct weights *weights, struct weir__text element)
{
    struct weir__text name = split(&element, ';');
    int weight = element.length > 0 ? weight_parse(trim(element)) : WEIGHT_ONE;
    if (weight == WEIGHT_UNKNOWN)
        return;
    if (equals(name, (struct weir__text){"*", 1}))
        weights->of[WEIR__CODING_COUNT] = weight;
    else if (equals(name, (struct weir__text){"x-gzip", 6}))
        weights->of[WEIR__CODING_GZIP] = weight; /* RFC 9110 8.4.1.3 */
    else
        for (int i = 0; i < WEIR__CODING_COUNT; i++)
            if (equals(name, codings[i].name))
                weights->of[i] = weight;
}

int weir__coding_choose(const struct weir__request *request, unsigned available)
{
    assert(available & 1u << WEIR__CODING_IDENTITY);
    const struct weir__header *header =
        weir__request_next(request, WEIR__FIELD_ACCEPT_ENCODING, NULL);
    if (!header)
        return WEIR__CODING_IDENTITY;

    struct weights weights;
    for (int i = 0; i <= WEIR__CODING_COUNT; i++)
        weights.of[i] = WEIGHT_UNKNOWN;
    for (; header; header = weir__request_next(request, WEIR__FIELD_ACCEPT_ENCODING, header)) {
        struct weir__text rest = header->value;
        while (rest.length > 0)
            weigh(&weights, split(&rest, ','));
    }

    /*
     * Identity is acceptable unless it is ruled out; where nobody spoke of it, it is what is left
     * when no coding is wanted, so the least weight does.
     */
    int best = WEIR__CODING_NONE, best_weight = 0;
    for (int i = 0; i < WEIR__CODING_COUNT; i++) {
        int weight = weights.of[i];
        if (weight == WEIGHT_UNKNOWN)
            weight = weights.of[WEIR__CODING_COUNT];
        if (weight == WEIGHT_UNKNOWN)
            weight = i == WEIR__CODING_IDENTITY ? 1 : 0;
        if (available >> i & 1 && weight > 0 && weight >= best_weight) {
            best = i;
            best_weight = weight;
        }
    }
    return best;
}
