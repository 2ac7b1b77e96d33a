/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_BENCH_SEAL_H
#define WEIR_BENCH_SEAL_H

/*
 * The least that protecting bytes takes: AES-128-GCM over records of 16 KiB, with nothing around it. By
 * libipsec-mb, as Weir has it where it is built with that (SEAL_IPSEC_MB), else by libcrypto.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SEAL_RECORD_BYTES 16384
#define SEAL_NONCE_BYTES  12
#define SEAL_HEADER_BYTES 5
#define SEAL_TAG_BYTES    16

static const uint8_t seal_key[16] = "0123456789abcdef";

#ifdef SEAL_IPSEC_MB
#include <intel-ipsec-mb.h>

static struct gcm_key_data seal_key_data;
static IMB_MGR *seal_manager;

static int seal_begin(void)
{
    IMB_ARCH arch;
    seal_manager = alloc_mb_mgr(0);
    if (seal_manager == NULL)
        return -1;
    init_mb_mgr_auto(seal_manager, &arch);
    IMB_AES128_GCM_PRE(seal_manager, seal_key, &seal_key_data);
    return imb_get_errno(seal_manager) == 0 ? 0 : -1;
}

static int seal_record(const uint8_t *nonce, const uint8_t *header, const void *data, size_t length,
                       void *out, uint8_t *tag)
{
    struct gcm_context_data context;
    IMB_AES128_GCM_ENC(seal_manager, &seal_key_data, &context, out, data, length, nonce, header,
                       SEAL_HEADER_BYTES, tag, SEAL_TAG_BYTES);
    return 0;
}
#else
#include <openssl/evp.h>

static EVP_CIPHER_CTX *seal_context;

static int seal_begin(void)
{
    seal_context = EVP_CIPHER_CTX_new();
    return seal_context != NULL &&
                   EVP_EncryptInit_ex(seal_context, EVP_aes_128_gcm(), NULL, seal_key, NULL) == 1
               ? 0
               : -1;
}

static int seal_record(const uint8_t *nonce, const uint8_t *header, const void *data, size_t length,
                       void *out, uint8_t *tag)
{
    int taken;
    return EVP_EncryptInit_ex(seal_context, NULL, NULL, NULL, nonce) == 1 &&
                   EVP_EncryptUpdate(seal_context, NULL, &taken, header, SEAL_HEADER_BYTES) == 1 &&
                   EVP_EncryptUpdate(seal_context, out, &taken, data, (int)length) == 1 &&
                   EVP_EncryptFinal_ex(seal_context, tag, &taken) == 1 &&
                   EVP_CIPHER_CTX_ctrl(seal_context, EVP_CTRL_AEAD_GET_TAG, SEAL_TAG_BYTES, tag) ==
                       1
               ? 0
               : -1;
}
#endif

/*
 * Encrypts `length` bytes into `out`, as many. Headers and tags of the records, 22 bytes each, are made and
 * dropped: what goes out is as long as what a plain client expects. Returns 0, or -1.
 */
static int seal(const char *data, size_t length, char *out)
{
    static uint64_t sequence;
    uint8_t nonce[SEAL_NONCE_BYTES] = {0}, header[SEAL_HEADER_BYTES] = {0x17, 3, 3};
    uint8_t tag[SEAL_TAG_BYTES];

    for (size_t done = 0; done < length; done += SEAL_RECORD_BYTES) {
        size_t part = length - done < SEAL_RECORD_BYTES ? length - done : SEAL_RECORD_BYTES;
        sequence++;
        memcpy(nonce, &sequence, sizeof(sequence));
        header[3] = (uint8_t)((part + 1 + SEAL_TAG_BYTES) >> 8);
        header[4] = (uint8_t)(part + 1 + SEAL_TAG_BYTES);
        if (seal_record(nonce, header, data + done, part, out + done, tag) != 0)
            return -1;
    }
    return 0;
}

#endif
