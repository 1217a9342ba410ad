/* Times key exchange and signatures through EVP as libssl calls them: the provider qtls against libcrypto's own, in one run.
 *
 *   operations ROUNDS MILLISECONDS OPENSSL.CNF     the file activates default and qtls (native = prefer)
 *
 * In each round every operation is repeated for that long by one side and then by the other, so that what else the
 * machine does strikes both. Times are this thread's CPU time. Three operations are timed, each with the contexts that
 * libssl makes and frees for it (ssl/statem, s3_lib.c of OpenSSL 3.5):
 *
 *   key generation   the client makes its key pair and encodes its share
 *   encapsulation    the server takes the client's share (empty key, set1_encoded_public_key), encapsulates
 *   decapsulation    the client decapsulates with the key that it made
 *
 * and of a signature, on a message of the size that TLS signs (RFC 8446 section 4.4.3),
 *
 *   signing          the server asks for the size, then signs
 *   verification     the client verifies with the public key that it took from the certificate
 *
 * With liboqs (-DWITH_LIBOQS) a third column holds its bare primitives, which have no EVP around them. */
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_LIBOQS
#include <oqs/oqs.h>
#endif

enum { KEY_GENERATION, ENCAPSULATION, DECAPSULATION, SIGNING, VERIFICATION, OPERATIONS };
static const char *const operation_names[OPERATIONS] = {"key generation", "encapsulation", "decapsulation", "signing",
                                                        "verification"};

enum { QTLS, OWN, LIBOQS, SIDES };
static const char *const properties[] = {"provider=qtls", "provider=default"};
/* Each side has a library context of its own: in ours, OpenSSL's own hybrids would take their ML-KEM half from us. */
static OSSL_LIB_CTX *libraries[] = {NULL, NULL};

static const char *const algorithms[] = {"X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024",
                                         "ML-KEM-512",     "ML-KEM-768",        "ML-KEM-1024",
                                         "ML-DSA-44",      "ML-DSA-65",         "ML-DSA-87"};
/* From here on they are signatures. */
enum { FIRST_SIGNATURE = 6 };
enum { ALGORITHMS = sizeof(algorithms) / sizeof(algorithms[0]), ROUNDS_MAX = 1000 };

/* What one side works on; made once, before anything is timed. */
struct side {
    OSSL_LIB_CTX *library;
    const char *algorithm, *property;
    EVP_PKEY *key;
    unsigned char *share, *ciphertext, *secret;
    size_t share_bytes, ciphertext_bytes, secret_bytes;
    EVP_PKEY *public_key;
    unsigned char *signature, *verified;
    size_t signature_bytes;
#ifdef WITH_LIBOQS
    OQS_KEM *oqs;
    OQS_SIG *oqs_signature;
    unsigned char *oqs_private;
#endif
};

#define REQUIRE(what)                                                                                                  \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            fprintf(stderr, "operations: %s failed at line %d\n", #what, __LINE__);                                    \
            ERR_print_errors_fp(stderr);                                                                               \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static EVP_PKEY *generate(const struct side *side)
{
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(side->library, side->algorithm, side->property);
    REQUIRE(context && EVP_PKEY_keygen_init(context) == 1 && EVP_PKEY_keygen(context, &key) == 1);
    EVP_PKEY_CTX_free(context);
    return key;
}

static void key_generation(struct side *side)
{
    unsigned char *share = NULL;
    EVP_PKEY *key = generate(side);
    REQUIRE(EVP_PKEY_get1_encoded_public_key(key, &share) == side->share_bytes);
    OPENSSL_free(share);
    EVP_PKEY_free(key);
}

static void encapsulation(struct side *side)
{
    EVP_PKEY *peer = NULL;
    size_t ciphertext = 0, secret = 0;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(side->library, side->algorithm, side->property);
    REQUIRE(context && EVP_PKEY_paramgen_init(context) == 1 && EVP_PKEY_paramgen(context, &peer) == 1);
    EVP_PKEY_CTX_free(context);
    REQUIRE(EVP_PKEY_set1_encoded_public_key(peer, side->share, side->share_bytes) == 1);
    context = EVP_PKEY_CTX_new_from_pkey(side->library, peer, side->property);
    REQUIRE(context && EVP_PKEY_encapsulate_init(context, NULL) == 1);
    REQUIRE(EVP_PKEY_encapsulate(context, NULL, &ciphertext, NULL, &secret) == 1);
    REQUIRE(ciphertext == side->ciphertext_bytes && secret == side->secret_bytes);
    REQUIRE(EVP_PKEY_encapsulate(context, side->ciphertext, &ciphertext, side->secret, &secret) == 1);
    EVP_PKEY_CTX_free(context);
    EVP_PKEY_free(peer);
}

static void decapsulation(struct side *side)
{
    unsigned char found[128];
    size_t secret = 0;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(side->library, side->key, side->property);
    REQUIRE(context && EVP_PKEY_decapsulate_init(context, NULL) == 1);
    REQUIRE(EVP_PKEY_decapsulate(context, NULL, &secret, side->ciphertext, side->ciphertext_bytes) == 1);
    REQUIRE(secret <= sizeof(found));
    REQUIRE(EVP_PKEY_decapsulate(context, found, &secret, side->ciphertext, side->ciphertext_bytes) == 1);
    REQUIRE(secret == side->secret_bytes && memcmp(found, side->secret, secret) == 0);
    EVP_PKEY_CTX_free(context);
}

/* 64 spaces, a context string, a null byte and a hash of 32 bytes. */
static unsigned char message[64 + 33 + 1 + 32];
/* What is verified is signed once, and does not change as what is signed does. */
static const unsigned char signed_before[sizeof(message)];

static void signing(struct side *side)
{
    size_t size = 0;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    message[sizeof(message) - 1]++;
    REQUIRE(context && EVP_DigestSignInit_ex(context, NULL, NULL, side->library, side->property, side->key, NULL) == 1);
    REQUIRE(EVP_DigestSign(context, NULL, &size, message, sizeof(message)) == 1 && size == side->signature_bytes);
    REQUIRE(EVP_DigestSign(context, side->signature, &size, message, sizeof(message)) == 1);
    EVP_MD_CTX_free(context);
}

static void verification(struct side *side)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    REQUIRE(context
            && EVP_DigestVerifyInit_ex(context, NULL, NULL, side->library, side->property, side->public_key, NULL) == 1);
    REQUIRE(EVP_DigestVerify(context, side->verified, side->signature_bytes, signed_before, sizeof(signed_before)) == 1);
    EVP_MD_CTX_free(context);
}

static int has_liboqs(const struct side *side)
{
#ifdef WITH_LIBOQS
    return side->oqs != NULL || side->oqs_signature != NULL;
#else
    (void)side;
    return 0;
#endif
}

static void primitive(struct side *side, int operation)
{
#ifdef WITH_LIBOQS
    unsigned char found[128];
    switch (operation) {
    case KEY_GENERATION:
        REQUIRE(OQS_KEM_keypair(side->oqs, side->share, side->oqs_private) == OQS_SUCCESS);
        break;
    case SIGNING:
        message[sizeof(message) - 1]++;
        REQUIRE(OQS_SIG_sign(side->oqs_signature, side->signature, &side->signature_bytes, message, sizeof(message),
                             side->oqs_private)
                == OQS_SUCCESS);
        break;
    case VERIFICATION:
        REQUIRE(OQS_SIG_verify(side->oqs_signature, signed_before, sizeof(signed_before), side->verified,
                               side->signature_bytes, side->share)
                == OQS_SUCCESS);
        break;
    case ENCAPSULATION:
        REQUIRE(OQS_KEM_encaps(side->oqs, side->ciphertext, side->secret, side->share) == OQS_SUCCESS);
        break;
    default:
        REQUIRE(OQS_KEM_decaps(side->oqs, found, side->ciphertext, side->oqs_private) == OQS_SUCCESS);
        REQUIRE(memcmp(found, side->secret, side->oqs->length_shared_secret) == 0);
    }
#else
    (void)side, (void)operation;
#endif
}

static void prepare_signature(struct side *side, int which)
{
    unsigned char public_key[4096];
    size_t size = 0;
    EVP_PKEY_CTX *context;
    if (which == LIBOQS) {
#ifdef WITH_LIBOQS
        if ((side->oqs_signature = OQS_SIG_new(side->algorithm)) == NULL)
            return;
        side->share = malloc(side->oqs_signature->length_public_key);
        side->oqs_private = malloc(side->oqs_signature->length_secret_key);
        side->signature = malloc(side->oqs_signature->length_signature);
        side->verified = malloc(side->oqs_signature->length_signature);
        REQUIRE(side->share && side->oqs_private && side->signature && side->verified);
        REQUIRE(OQS_SIG_keypair(side->oqs_signature, side->share, side->oqs_private) == OQS_SUCCESS);
        REQUIRE(OQS_SIG_sign(side->oqs_signature, side->verified, &side->signature_bytes, signed_before,
                             sizeof(signed_before), side->oqs_private)
                == OQS_SUCCESS);
#endif
        return;
    }
    side->library = libraries[which];
    side->property = properties[which];
    side->key = generate(side);
    REQUIRE(EVP_PKEY_get_octet_string_param(side->key, "pub", public_key, sizeof(public_key), &size) == 1);
    OSSL_PARAM params[] = {OSSL_PARAM_construct_octet_string("pub", public_key, size), OSSL_PARAM_construct_end()};
    context = EVP_PKEY_CTX_new_from_name(side->library, side->algorithm, side->property);
    REQUIRE(context && EVP_PKEY_fromdata_init(context) == 1);
    REQUIRE(EVP_PKEY_fromdata(context, &side->public_key, EVP_PKEY_PUBLIC_KEY, params) == 1);
    EVP_PKEY_CTX_free(context);
    side->share_bytes = size;
    side->signature_bytes = EVP_PKEY_get_size(side->key);
    side->signature = malloc(side->signature_bytes);
    side->verified = malloc(side->signature_bytes);
    REQUIRE(side->signature && side->verified);
    size = side->signature_bytes;
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    REQUIRE(digest && EVP_DigestSignInit_ex(digest, NULL, NULL, side->library, side->property, side->key, NULL) == 1);
    REQUIRE(EVP_DigestSign(digest, side->verified, &size, signed_before, sizeof(signed_before)) == 1);
    EVP_MD_CTX_free(digest);
}

static void prepare(struct side *side, int which, int algorithm_index)
{
    const char *algorithm = algorithms[algorithm_index];
    memset(side, 0, sizeof(*side));
    side->algorithm = algorithm;
    if (algorithm_index >= FIRST_SIGNATURE) {
        prepare_signature(side, which);
        return;
    }
    if (which == LIBOQS) {
#ifdef WITH_LIBOQS
        /* Algorithms that are no KEM of liboqs (the hybrids) have no third column. */
        if ((side->oqs = OQS_KEM_new(algorithm)) == NULL)
            return;
        side->share = malloc(side->oqs->length_public_key);
        side->oqs_private = malloc(side->oqs->length_secret_key);
        side->ciphertext = malloc(side->oqs->length_ciphertext);
        side->secret = malloc(side->oqs->length_shared_secret);
        REQUIRE(side->share && side->oqs_private && side->ciphertext && side->secret);
#endif
        return;
    }
    side->library = libraries[which];
    side->property = properties[which];
    side->key = generate(side);
    side->share_bytes = EVP_PKEY_get1_encoded_public_key(side->key, &side->share);
    REQUIRE(side->share_bytes > 0);
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(side->library, side->key, side->property);
    REQUIRE(context && EVP_PKEY_encapsulate_init(context, NULL) == 1);
    REQUIRE(EVP_PKEY_encapsulate(context, NULL, &side->ciphertext_bytes, NULL, &side->secret_bytes) == 1);
    EVP_PKEY_CTX_free(context);
    side->ciphertext = malloc(side->ciphertext_bytes);
    side->secret = malloc(side->secret_bytes);
    REQUIRE(side->ciphertext && side->secret);
}

static double cpu_microseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * 1e6 + now.tv_nsec / 1e3;
}

/* Microseconds of one operation, as the average over at least `budget` microseconds. */
static double timed(struct side *side, int which, int operation, double budget)
{
    static void (*const through_evp[OPERATIONS])(struct side *) = {key_generation, encapsulation, decapsulation, signing, verification};
    double begin = cpu_microseconds(), spent;
    long count = 0;
    do {
        for (int i = 0; i < 8; i++, count++) {
            if (which == LIBOQS)
                primitive(side, operation);
            else
                through_evp[operation](side);
        }
        spent = cpu_microseconds() - begin;
    } while (spent < budget);
    return spent / count;
}

/* Which operations an algorithm has: the first and the one after the last. */
static int first_operation(int algorithm) { return algorithm < FIRST_SIGNATURE ? KEY_GENERATION : SIGNING; }
static int operations_end(int algorithm) { return algorithm < FIRST_SIGNATURE ? SIGNING : OPERATIONS; }

static double results[ALGORITHMS][OPERATIONS][SIDES][ROUNDS_MAX];

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_row(const char *algorithm, const char *operation, double *qtls, double *own, double *oqs, int rounds)
{
    int median = rounds / 2;
    qsort(qtls, rounds, sizeof(double), ascending);
    qsort(own, rounds, sizeof(double), ascending);
    printf("%-20s %-28s %8.1f %7.1f %8.1f %7.1f %8.2f %7.2f", algorithm, operation, qtls[0], qtls[median], own[0],
           own[median], own[0] / qtls[0], own[median] / qtls[median]);
    if (oqs) {
        qsort(oqs, rounds, sizeof(double), ascending);
        printf(" %8.1f %7.1f", oqs[0], oqs[median]);
    }
    putchar('\n');
}

int main(int argc, char **argv)
{
    static struct side sides[ALGORITHMS][SIDES];
    int rounds = argc > 1 ? atoi(argv[1]) : 0;
    double budget = argc > 2 ? atof(argv[2]) * 1e3 : 0;
    if (argc != 4 || rounds < 1 || rounds > ROUNDS_MAX || budget <= 0) {
        fprintf(stderr, "usage: operations ROUNDS MILLISECONDS OPENSSL.CNF\n");
        return 2;
    }
    REQUIRE((libraries[QTLS] = OSSL_LIB_CTX_new()) && (libraries[OWN] = OSSL_LIB_CTX_new()));
    REQUIRE(OSSL_LIB_CTX_load_config(libraries[QTLS], argv[3]) == 1);
    REQUIRE(OSSL_PROVIDER_available(libraries[QTLS], "qtls"));
    REQUIRE(OSSL_PROVIDER_load(libraries[OWN], "default"));

    for (int a = 0; a < ALGORITHMS; a++) {
        for (int side = 0; side < SIDES; side++) {
            prepare(&sides[a][side], side, a);
            for (int operation = first_operation(a); operation < operations_end(a); operation++)
                if (side != LIBOQS || has_liboqs(&sides[a][side]))
                    timed(&sides[a][side], side, operation, 1);
        }
        /* What is compared must be the same algorithm. */
        REQUIRE(sides[a][QTLS].share_bytes == sides[a][OWN].share_bytes
                && sides[a][QTLS].ciphertext_bytes == sides[a][OWN].ciphertext_bytes
                && sides[a][QTLS].signature_bytes == sides[a][OWN].signature_bytes);
    }
    for (int round = 0; round < rounds; round++) {
        if (isatty(STDERR_FILENO))
            fprintf(stderr, "\rround %d of %d%s", round + 1, rounds, round + 1 < rounds ? "" : "\n");
        for (int a = 0; a < ALGORITHMS; a++)
            for (int operation = first_operation(a); operation < operations_end(a); operation++)
                for (int side = 0; side < SIDES; side++)
                    if (side != LIBOQS || has_liboqs(&sides[a][side]))
                        results[a][operation][side][round] = timed(&sides[a][side], side, operation, budget);
    }

    printf("Microseconds of CPU; %d rounds. Own: %s. Times: own / qtls.\n"
           "An ML-DSA signature takes a random number of attempts: of signing, compare the medians.\n\n", rounds, OpenSSL_version(OPENSSL_VERSION));
    printf("%-49s %16s %16s %16s", "", "qtls", "OpenSSL's own", "times");
#ifdef WITH_LIBOQS
    printf(" %16s", "liboqs " OQS_VERSION_TEXT);
#endif
    printf("\n%-49s", "");
    for (int column = 0; column < 3 + has_liboqs(&sides[ALGORITHMS - 1][LIBOQS]); column++)
        printf(" %8s %7s", "minimum", "median");
    putchar('\n');
    for (int a = 0; a < ALGORITHMS; a++) {
        double client[2][ROUNDS_MAX];
        for (int operation = first_operation(a); operation < operations_end(a); operation++)
            print_row(algorithms[a], operation_names[operation], results[a][operation][QTLS],
                      results[a][operation][OWN],
                      has_liboqs(&sides[a][LIBOQS]) ? results[a][operation][LIBOQS] : NULL, rounds);
        if (a >= FIRST_SIGNATURE)
            continue;
        for (int side = QTLS; side <= OWN; side++)
            for (int round = 0; round < rounds; round++)
                client[side][round] =
                    results[a][KEY_GENERATION][side][round] + results[a][DECAPSULATION][side][round];
        print_row(algorithms[a], "client: generate + decapsulate", client[QTLS], client[OWN], NULL, rounds);
    }
    return 0;
}
