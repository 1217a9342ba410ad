/* Several threads, each with a library context of its own, load what OPENSSL_CONF names at the same moment, the first time
 * that anyone in the process does. Status 1, with the reasons on stderr, when a thread fails. */
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { THREADS = 16 };

#define REQUIRE(what)                                                                                                  \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            fprintf(stderr, "contexts: %s failed at line %d\n", #what, __LINE__);                                      \
            ERR_print_errors_fp(stderr);                                                                               \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static pthread_barrier_t start;

static void *run(void *unused)
{
    OSSL_LIB_CTX *context = OSSL_LIB_CTX_new();
    EVP_PKEY *key = NULL;
    REQUIRE(context);
    pthread_barrier_wait(&start);
    REQUIRE(OSSL_LIB_CTX_load_config(context, getenv("OPENSSL_CONF")) == 1);
    EVP_PKEY_CTX *generation = EVP_PKEY_CTX_new_from_name(context, "id-MLDSA44-ECDSA-P256-SHA256", NULL);
    REQUIRE(generation && EVP_PKEY_keygen_init(generation) == 1 && EVP_PKEY_keygen(generation, &key) == 1);
    EVP_PKEY_CTX_free(generation);
    EVP_PKEY_free(key);
    OSSL_LIB_CTX_free(context);
    return unused;
}

int main(void)
{
    pthread_t threads[THREADS];
    /* No configuration of the process's own: the provider must not be loaded before. */
    REQUIRE(OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) == 1);
    REQUIRE(pthread_barrier_init(&start, NULL, THREADS) == 0);
    for (int i = 0; i < THREADS; i++)
        REQUIRE(pthread_create(&threads[i], NULL, run, NULL) == 0);
    for (int i = 0; i < THREADS; i++)
        REQUIRE(pthread_join(threads[i], NULL) == 0);
    return 0;
}
