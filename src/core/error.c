/* SPDX-License-Identifier: Apache-2.0 */
#include <weir/delivery.h>
#include <weir/error.h>
#include <weir/version.h>

struct error_entry {
    const char *name;
    const char *text;
};

static const struct error_entry *find(int error)
{
    static const struct error_entry entries[] = {
        [0] = {"0", "success"},
        [-WEIR_ENOMEM] = {"WEIR_ENOMEM", "out of memory"},
        [-WEIR_EINVAL] = {"WEIR_EINVAL", "invalid argument"},
        [-WEIR_ENOTSUP] = {"WEIR_ENOTSUP", "not supported by this kernel, engine or build"},
        [-WEIR_EQUEUEFULL] = {"WEIR_EQUEUEFULL", "the queue is full"},
        [-WEIR_ESHUT] = {"WEIR_ESHUT", "the stream is shut"},
        [-WEIR_ECANCELLED] = {"WEIR_ECANCELLED", "cancelled"},
        [-WEIR_EABORTED] = {"WEIR_EABORTED", "this side gave the connection up"},
        [-WEIR_ERESET] = {"WEIR_ERESET", "the peer reset the connection"},
        [-WEIR_ETIMEDOUT] = {"WEIR_ETIMEDOUT", "timed out"},
        [-WEIR_EREFUSED] = {"WEIR_EREFUSED", "connection refused"},
        [-WEIR_EUNREACHABLE] = {"WEIR_EUNREACHABLE", "no route to the address"},
        [-WEIR_EADDRINUSE] = {"WEIR_EADDRINUSE", "the address is in use"},
        [-WEIR_EADDRNOTAVAIL] = {"WEIR_EADDRNOTAVAIL", "not an address of this host"},
        [-WEIR_EACCESS] = {"WEIR_EACCESS", "permission denied"},
        [-WEIR_EMFILE] = {"WEIR_EMFILE", "out of file descriptors"},
        [-WEIR_ENOBUFS] = {"WEIR_ENOBUFS", "the kernel is out of buffers"},
        [-WEIR_ETRUNCATED] = {"WEIR_ETRUNCATED", "the file is shorter than promised"},
        [-WEIR_EIO] = {"WEIR_EIO", "the operating system failed"},
        [-WEIR_ETLS] = {"WEIR_ETLS", "TLS failed"},
        [-WEIR_ECUTOFF] = {"WEIR_ECUTOFF", "the TLS connection was cut off"},
    };
    static const struct error_entry unknown = {"unknown", "unknown error"};

    if (error > 0 || error < WEIR_ECUTOFF)
        return &unknown;
    return &entries[-error];
}

const char *weir_error_text(int error)
{
    return find(error)->text;
}

const char *weir_error_name(int error)
{
    return find(error)->name;
}

const char *weir_delivery_source_name(enum weir_delivery_source source)
{
    switch (source) {
    case WEIR_DELIVERY_TX_ACK:
        return "tx_ack";
    case WEIR_DELIVERY_TCP_INFO:
        return "tcp_info";
    case WEIR_DELIVERY_NONE:
        break;
    }
    return "none";
}

const char *weir_version(void)
{
    return WEIR_VERSION_TEXT;
}
