/* Signs and verifies by the calls that OpenSSL 3.4 added, EVP_PKEY_sign_message_init and its like, with every signature
 * algorithm of the provider `qtls`. OPENSSL_CONF says what is activated. One line an algorithm, its name. Any failure ends the
 * program with status 1 and its reasons on stderr. */
#include "common.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>
#include <string.h>

static const char *const algorithms[] = {"ML-DSA-44",
                                         "ML-DSA-65",
                                         "ML-DSA-87",
                                         "id-MLDSA44-ECDSA-P256-SHA256",
                                         "id-MLDSA65-ECDSA-P256-SHA512",
                                         "id-MLDSA65-ECDSA-P384-SHA512",
                                         "id-MLDSA65-Ed25519-SHA512",
                                         "id-MLDSA87-ECDSA-P384-SHA512"};

static const char ours[] = "provider=qtls";
static const unsigned char message[] = "a message in pieces";
static unsigned char string[] = "context";

/* The one error in the queue that the provider made says so; the queue is empty afterwards. libcrypto 3.5 adds one of its
 * own. */
static void expect_error(const char *text)
{
    const char *file = "", *data = "";
    int flags = 0, ours_seen = 0;
    while (ERR_get_error_all(&file, NULL, NULL, &data, &flags) != 0)
        if (strcmp(file, "qtls") == 0) {
            ours_seen++;
            if (strstr(data, text) == NULL) {
                fprintf(stderr, "messages: '%s' was expected, not '%s'\n", text, data);
                exit(1);
            }
        }
    REQUIRE(ours_seen == 1);
}

static void check(const char *algorithm)
{
    unsigned char signature[8192];
    size_t size = 0;
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, algorithm, ours), *copy;
    REQUIRE(context && EVP_PKEY_keygen_init(context) == 1 && EVP_PKEY_keygen(context, &key) == 1);
    EVP_PKEY_CTX_free(context);
    EVP_SIGNATURE *implementation = EVP_SIGNATURE_fetch(NULL, algorithm, ours);
    REQUIRE(implementation);
    OSSL_PARAM params[] = {OSSL_PARAM_construct_octet_string("context-string", string, sizeof(string) - 1),
                           OSSL_PARAM_END};

    /* In pieces; what ends the message is a copy made in the middle of it. */
    context = EVP_PKEY_CTX_new_from_pkey(NULL, key, ours);
    REQUIRE(context && EVP_PKEY_sign_message_init(context, implementation, params) == 1);
    REQUIRE(EVP_PKEY_sign_message_update(context, message, 5) == 1);
    REQUIRE((copy = EVP_PKEY_CTX_dup(context)) != NULL);
    EVP_PKEY_CTX_free(context);
    REQUIRE(EVP_PKEY_sign_message_update(copy, message + 5, sizeof(message) - 5) == 1);
    REQUIRE(EVP_PKEY_sign_message_final(copy, NULL, &size) == 1 && size <= sizeof(signature));
    REQUIRE(EVP_PKEY_sign_message_final(copy, signature, &size) == 1);
    EVP_PKEY_CTX_free(copy);

    context = EVP_PKEY_CTX_new_from_pkey(NULL, key, ours);
    REQUIRE(context && EVP_PKEY_verify_message_init(context, implementation, params) == 1);
    REQUIRE(EVP_PKEY_verify(context, signature, size, message, sizeof(message)) == 1);
    REQUIRE(EVP_PKEY_verify_message_init(context, implementation, params) == 1);
    REQUIRE(EVP_PKEY_CTX_set_signature(context, signature, size) == 1);
    REQUIRE(EVP_PKEY_verify_message_update(context, message, 1) == 1);
    REQUIRE((copy = EVP_PKEY_CTX_dup(context)) != NULL);
    REQUIRE(EVP_PKEY_verify_message_update(context, message + 1, sizeof(message) - 1) == 1);
    REQUIRE(EVP_PKEY_verify_message_final(context) == 1);
    /* The copy has message and signature of its own. */
    REQUIRE(EVP_PKEY_verify_message_update(copy, message + 1, sizeof(message) - 1) == 1);
    REQUIRE(EVP_PKEY_verify_message_final(copy) == 1);
    EVP_PKEY_CTX_free(copy);

    /* Another message, another signature, none at all. */
    REQUIRE(EVP_PKEY_verify_message_init(context, implementation, params) == 1);
    REQUIRE(EVP_PKEY_CTX_set_signature(context, signature, size) == 1);
    REQUIRE(EVP_PKEY_verify_message_update(context, message, 5) == 1);
    REQUIRE(EVP_PKEY_verify_message_final(context) != 1);
    expect_error("does not belong to this message");
    signature[7] ^= 1;
    REQUIRE(EVP_PKEY_verify_message_init(context, implementation, params) == 1);
    REQUIRE(EVP_PKEY_CTX_set_signature(context, signature, size) == 1);
    REQUIRE(EVP_PKEY_verify_message_update(context, message, sizeof(message)) == 1);
    REQUIRE(EVP_PKEY_verify_message_final(context) != 1);
    expect_error("does not belong to this message");
    REQUIRE(EVP_PKEY_verify_message_init(context, implementation, params) == 1);
    REQUIRE(EVP_PKEY_verify_message_update(context, message, sizeof(message)) == 1);
    REQUIRE(EVP_PKEY_verify_message_final(context) != 1);
    expect_error("no signature was given");
    EVP_PKEY_CTX_free(context);

    /* At once. */
    context = EVP_PKEY_CTX_new_from_pkey(NULL, key, ours);
    REQUIRE(context && EVP_PKEY_sign_message_init(context, implementation, NULL) == 1);
    size = 0;
    REQUIRE(EVP_PKEY_sign(context, NULL, &size, message, sizeof(message)) == 1 && size <= sizeof(signature));
    REQUIRE(EVP_PKEY_sign(context, signature, &size, message, sizeof(message)) == 1);
    REQUIRE(EVP_PKEY_verify_message_init(context, implementation, NULL) == 1);
    REQUIRE(EVP_PKEY_CTX_set_params(context, params) == 1);
    REQUIRE(EVP_PKEY_verify(context, signature, size, message, sizeof(message)) != 1);
    expect_error("does not belong to this message");
    EVP_PKEY_CTX_free(context);

    /* From 3.5 on CMS knows signatures without a digest, so none is put up with. */
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    int accepted = digest ? EVP_DigestSignInit_ex(digest, NULL, "SHA512", NULL, NULL, key, NULL) : 0;
    if (OPENSSL_version_major() == 3 && OPENSSL_version_minor() < 5) {
        REQUIRE(accepted == 1);
    } else {
        REQUIRE(accepted != 1);
        REQUIRE(strstr(ERR_reason_error_string(ERR_peek_error()), "invalid argument") != NULL);
        expect_error("leave the digest out");
    }
    EVP_MD_CTX_free(digest);

    EVP_SIGNATURE_free(implementation);
    EVP_PKEY_free(key);
    puts(algorithm);
}

int main(void)
{
    REQUIRE(OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG, NULL) == 1);
    for (size_t i = 0; i < sizeof(algorithms) / sizeof(algorithms[0]); i++)
        check(algorithms[i]);
    REQUIRE(fflush(stdout) == 0);
    return 0;
}
