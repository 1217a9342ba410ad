/* What the test programs share. */
#ifndef QTLS_TESTS_COMMON_H
#define QTLS_TESTS_COMMON_H

#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

/* Ends the program with status 1 and the reasons, where something is not so. */
#define REQUIRE(what)                                                                                                  \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            fprintf(stderr, "%s: %s failed at line %d\n", __FILE_NAME__, #what, __LINE__);                             \
            ERR_print_errors_fp(stderr);                                                                               \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static inline EVP_PKEY *generate(const char *algorithm, const char *properties)
{
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, algorithm, properties);
    REQUIRE(context && EVP_PKEY_keygen_init(context) == 1 && EVP_PKEY_keygen(context, &key) == 1);
    EVP_PKEY_CTX_free(context);
    return key;
}

/* Whether a provider with these properties has keys of an algorithm. */
static inline int has(const char *algorithm, const char *properties)
{
    EVP_KEYMGMT *keymgmt;
    ERR_set_mark();
    keymgmt = EVP_KEYMGMT_fetch(NULL, algorithm, properties);
    ERR_pop_to_mark();
    EVP_KEYMGMT_free(keymgmt);
    return keymgmt != NULL;
}

#endif
