/* Prints which provider libcrypto takes for each algorithm when nobody asks for one, and lets both providers' keys
 * exchange a secret where both have the algorithm. OPENSSL_CONF says what is activated. One line an algorithm:
 *
 *   NAME keymgmt=PROVIDER kem=PROVIDER generated=PROVIDER exchanges=N
 *
 * where N counts the exchanges that were done: 2 for each of the six algorithms that both have (each side decapsulates
 * once), else 1. Any failure ends the program with status 1 and its reasons on stderr. */
#include "common.h"

#include <openssl/crypto.h>
#include <openssl/provider.h>
#include <string.h>

static const char *const algorithms[] = {"X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024",
                                         "ML-KEM-512",     "ML-KEM-768",        "ML-KEM-1024"};

/* A key of `owner` sends its share, a key of `peer` encapsulates to it. */
static void exchange(const char *algorithm, const char *owner, const char *peer)
{
    unsigned char ciphertext[2048], sent[128], received[128], *share = NULL;
    size_t ciphertext_bytes = sizeof(ciphertext), sent_bytes = sizeof(sent), received_bytes = sizeof(received);
    EVP_PKEY *key = generate(algorithm, owner), *public = NULL;
    size_t share_bytes = EVP_PKEY_get1_encoded_public_key(key, &share);
    REQUIRE(share_bytes > 0);

    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, algorithm, peer);
    REQUIRE(context && EVP_PKEY_paramgen_init(context) == 1 && EVP_PKEY_paramgen(context, &public) == 1);
    EVP_PKEY_CTX_free(context);
    REQUIRE(EVP_PKEY_set1_encoded_public_key(public, share, share_bytes) == 1);
    context = EVP_PKEY_CTX_new_from_pkey(NULL, public, peer);
    REQUIRE(context && EVP_PKEY_encapsulate_init(context, NULL) == 1);
    REQUIRE(EVP_PKEY_encapsulate(context, ciphertext, &ciphertext_bytes, sent, &sent_bytes) == 1);
    EVP_PKEY_CTX_free(context);

    context = EVP_PKEY_CTX_new_from_pkey(NULL, key, owner);
    REQUIRE(context && EVP_PKEY_decapsulate_init(context, NULL) == 1);
    REQUIRE(EVP_PKEY_decapsulate(context, received, &received_bytes, ciphertext, ciphertext_bytes) == 1);
    REQUIRE(sent_bytes == received_bytes && memcmp(sent, received, sent_bytes) == 0);
    EVP_PKEY_CTX_free(context);
    EVP_PKEY_free(public);
    EVP_PKEY_free(key);
    OPENSSL_free(share);
}

int main(void)
{
    REQUIRE(OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG, NULL) == 1);
    for (size_t i = 0; i < sizeof(algorithms) / sizeof(algorithms[0]); i++) {
        const char *algorithm = algorithms[i];
        EVP_KEYMGMT *keymgmt = EVP_KEYMGMT_fetch(NULL, algorithm, NULL);
        EVP_KEM *kem = EVP_KEM_fetch(NULL, algorithm, NULL);
        REQUIRE(keymgmt && kem);
        EVP_PKEY *key = generate(algorithm, NULL);
        printf("%s keymgmt=%s kem=%s generated=%s", algorithm, OSSL_PROVIDER_get0_name(EVP_KEYMGMT_get0_provider(keymgmt)),
               OSSL_PROVIDER_get0_name(EVP_KEM_get0_provider(kem)), OSSL_PROVIDER_get0_name(EVP_PKEY_get0_provider(key)));
        EVP_PKEY_free(key);
        EVP_KEYMGMT_free(keymgmt);
        EVP_KEM_free(kem);

        if (has(algorithm, "provider=qtls") && has(algorithm, "provider=default")) {
            exchange(algorithm, "provider=qtls", "provider=default");
            exchange(algorithm, "provider=default", "provider=qtls");
            puts(" exchanges=2");
        } else {
            exchange(algorithm, NULL, NULL);
            puts(" exchanges=1");
        }
    }
    REQUIRE(fflush(stdout) == 0);
    return 0;
}
