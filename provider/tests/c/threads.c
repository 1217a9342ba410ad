/* Several threads begin to use every algorithm at the same moment, the first time that anyone does. OPENSSL_CONF says
 * what is activated. Status 1, with the reasons on stderr, when a thread fails. */
#include "common.h"

#include <openssl/crypto.h>
#include <pthread.h>
#include <string.h>

enum { THREADS = 8, ROUNDS = 5 };

static const char *const algorithms[] = {"X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024",
                                         "ML-KEM-512",     "ML-KEM-768",        "ML-KEM-1024"};

static pthread_barrier_t start;
/* One key that all threads use at once, as workers of one server share its keys. */
static EVP_PKEY *shared;

static void exchange(EVP_PKEY *key)
{
    unsigned char ciphertext[2048], sent[128], received[128];
    size_t ciphertext_bytes = sizeof(ciphertext), sent_bytes = sizeof(sent), received_bytes = sizeof(received);
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    REQUIRE(context && EVP_PKEY_encapsulate_init(context, NULL) == 1);
    REQUIRE(EVP_PKEY_encapsulate(context, ciphertext, &ciphertext_bytes, sent, &sent_bytes) == 1);
    REQUIRE(EVP_PKEY_decapsulate_init(context, NULL) == 1);
    REQUIRE(EVP_PKEY_decapsulate(context, received, &received_bytes, ciphertext, ciphertext_bytes) == 1);
    REQUIRE(sent_bytes == received_bytes && memcmp(sent, received, sent_bytes) == 0);
    EVP_PKEY_CTX_free(context);
}

static void *run(void *unused)
{
    pthread_barrier_wait(&start);
    for (int round = 0; round < ROUNDS; round++)
        for (size_t i = 0; i < sizeof(algorithms) / sizeof(algorithms[0]); i++) {
            EVP_PKEY *key = generate(algorithms[i], NULL);
            exchange(key);
            EVP_PKEY_free(key);
        }
    /* The barrier's second use: the main thread has made the shared key in between. */
    pthread_barrier_wait(&start);
    pthread_barrier_wait(&start);
    for (int round = 0; round < ROUNDS; round++)
        exchange(shared);
    return unused;
}

int main(void)
{
    pthread_t threads[THREADS];
    REQUIRE(pthread_barrier_init(&start, NULL, THREADS + 1) == 0);
    for (int i = 0; i < THREADS; i++)
        REQUIRE(pthread_create(&threads[i], NULL, run, NULL) == 0);
    pthread_barrier_wait(&start);
    pthread_barrier_wait(&start);
    shared = generate("X25519MLKEM768", NULL);
    pthread_barrier_wait(&start);
    for (int i = 0; i < THREADS; i++)
        REQUIRE(pthread_join(threads[i], NULL) == 0);
    EVP_PKEY_free(shared);
    return 0;
}
