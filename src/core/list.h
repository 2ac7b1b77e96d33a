/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_CORE_LIST_H
#define WEIR_CORE_LIST_H

/* A doubly linked ring through a head. A link outside any list has `next` NULL. */

#include <stdbool.h>
#include <stddef.h>

struct weir__list {
    struct weir__list *next, *previous;
};

/* The object that holds `link` as its `member`. */
#define WEIR__CONTAINER(link, type, member)                                                        \
    ((type *)(void *)((char *)(link)-offsetof(type, member)))

static inline void weir__list_init(struct weir__list *head)
{
    head->next = head;
    head->previous = head;
}

static inline bool weir__list_is_empty(const struct weir__list *head)
{
    return head->next == head;
}

static inline bool weir__list_is_linked(const struct weir__list *link)
{
    return link->next != NULL;
}

static inline void weir__list_append(struct weir__list *head, struct weir__list *link)
{
    link->next = head;
    link->previous = head->previous;
    head->previous->next = link;
    head->previous = link;
}

/* Harmless for a link outside any list. */
static inline void weir__list_remove(struct weir__list *link)
{
    if (!link->next)
        return;
    link->next->previous = link->previous;
    link->previous->next = link->next;
    link->next = NULL;
    link->previous = NULL;
}

/* The first link, taken out, or NULL. */
static inline struct weir__list *weir__list_take_first(struct weir__list *head)
{
    struct weir__list *link = head->next;

    if (link == head)
        return NULL;
    weir__list_remove(link);
    return link;
}

/* Moves all links of `from` to the end of `to`. */
static inline void weir__list_move_all(struct weir__list *to, struct weir__list *from)
{
    if (weir__list_is_empty(from))
        return;
    from->next->previous = to->previous;
    to->previous->next = from->next;
    from->previous->next = to;
    to->previous = from->previous;
    weir__list_init(from);
}

#endif
