/* Several threads, each with a library context of its own, load the qtls.so beside this program at the same moment, the first
 * time that anyone in the process does. Not by a configuration: OpenSSL 3.0 keeps a list of those that is not safe for threads
 * (initialized_modules in conf_mod.c). Status 1, with the reasons on stderr, when a thread fails. */
#include "common.h"

#include <openssl/crypto.h>
#include <openssl/provider.h>
#include <libgen.h>
#include <pthread.h>

enum { THREADS = 16 };

static pthread_barrier_t start;

static void *run(void *folder)
{
    OSSL_LIB_CTX *context = OSSL_LIB_CTX_new();
    EVP_PKEY *key = NULL;
    REQUIRE(context);
    REQUIRE(OSSL_PROVIDER_set_default_search_path(context, folder) == 1);
    pthread_barrier_wait(&start);
    OSSL_PROVIDER *own = OSSL_PROVIDER_load(context, "default"), *qtls = OSSL_PROVIDER_load(context, "qtls");
    REQUIRE(own && qtls);
    EVP_PKEY_CTX *generation = EVP_PKEY_CTX_new_from_name(context, "id-MLDSA44-ECDSA-P256-SHA256", NULL);
    REQUIRE(generation && EVP_PKEY_keygen_init(generation) == 1 && EVP_PKEY_keygen(generation, &key) == 1);
    EVP_PKEY_CTX_free(generation);
    EVP_PKEY_free(key);
    OSSL_PROVIDER_unload(qtls);
    OSSL_PROVIDER_unload(own);
    OSSL_LIB_CTX_free(context);
    return NULL;
}

int main(int argc, char **argv)
{
    REQUIRE(argc > 0);
    char *folder = dirname(argv[0]);
    pthread_t threads[THREADS];
    /* No configuration of the process's own: the provider must not be loaded before. */
    REQUIRE(OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) == 1);
    REQUIRE(pthread_barrier_init(&start, NULL, THREADS) == 0);
    for (int i = 0; i < THREADS; i++)
        REQUIRE(pthread_create(&threads[i], NULL, run, folder) == 0);
    for (int i = 0; i < THREADS; i++)
        REQUIRE(pthread_join(threads[i], NULL) == 0);
    return 0;
}
