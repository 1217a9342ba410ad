/* Times one signature by a token, called directly, and one by libcrypto with a key from a file, in one run.
 *
 *   signing_cost MODULE TOKEN PIN OBJECT KEY.PEM ROUNDS MILLISECONDS
 *
 * What a TLS server does for a handshake, and nothing else: C_SignInit and C_Sign on a session that is open and logged in,
 * against EVP_DigestSign. ECDSA P-256 and RSA-PSS sign a SHA-256 digest, ML-DSA the message of 130 bytes that TLS 1.3 signs
 * (RFC 8446 section 4.4.3). The type is that of KEY.PEM. Times are this process's CPU time, all threads; sides take turns.
 * Prints: microseconds by the token, by libcrypto, and the median of the differences. */
#include <dlfcn.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <p11-kit/pkcs11.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* PKCS#11 3.2 */
#define CKM_ML_DSA_3_2 0x1dUL

enum { ROUNDS_MAX = 1000, SIGNATURE_MAX = 8192 };

static CK_FUNCTION_LIST *token;
static CK_SESSION_HANDLE session;
static CK_OBJECT_HANDLE object;
static CK_RSA_PKCS_PSS_PARAMS pss = {CKM_SHA256, CKG_MGF1_SHA256, 32};
static CK_MECHANISM mechanism;
static EVP_PKEY *file_key;
static const EVP_MD *digest;
static unsigned char message[130], signature[SIGNATURE_MAX];
static size_t to_sign;

static void require(int holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "signing_cost: %s failed\n", what);
        exit(1);
    }
}

static void ask(CK_RV answer, const char *what) {
    if (answer != CKR_OK) {
        fprintf(stderr, "signing_cost: %s answered 0x%lx\n", what, answer);
        exit(1);
    }
}

static CK_SLOT_ID slot_of(const char *label) {
    CK_SLOT_ID slots[64];
    CK_ULONG count = 64;
    ask(token->C_GetSlotList(CK_TRUE, slots, &count), "C_GetSlotList");
    for (CK_ULONG i = 0; i < count; i++) {
        CK_TOKEN_INFO info;
        if (token->C_GetTokenInfo(slots[i], &info) == CKR_OK && strncmp((char *)info.label, label, strlen(label)) == 0 &&
            (strlen(label) == sizeof info.label || info.label[strlen(label)] == ' '))
            return slots[i];
    }
    fprintf(stderr, "signing_cost: no token '%s'\n", label);
    exit(1);
}

static void open_token(const char *path, const char *label, const char *pin, const char *name) {
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    require(module != NULL, path);
    CK_C_GetFunctionList list = (CK_C_GetFunctionList)dlsym(module, "C_GetFunctionList");
    require(list != NULL, "C_GetFunctionList");
    ask(list(&token), "C_GetFunctionList");
    ask(token->C_Initialize(NULL), "C_Initialize");
    ask(token->C_OpenSession(slot_of(label), CKF_SERIAL_SESSION, NULL, NULL, &session), "C_OpenSession");
    ask(token->C_Login(session, CKU_USER, (CK_UTF8CHAR *)pin, strlen(pin)), "C_Login");
    CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    CK_ATTRIBUTE wanted[] = {{CKA_CLASS, &class, sizeof class}, {CKA_LABEL, (void *)name, strlen(name)}};
    CK_ULONG found = 0;
    ask(token->C_FindObjectsInit(session, wanted, 2), "C_FindObjectsInit");
    ask(token->C_FindObjects(session, &object, 1, &found), "C_FindObjects");
    ask(token->C_FindObjectsFinal(session), "C_FindObjectsFinal");
    require(found == 1, "looking for the object");
}

static void by_token(void) {
    CK_ULONG bytes = sizeof signature;
    ask(token->C_SignInit(session, &mechanism, object), "C_SignInit");
    ask(token->C_Sign(session, message, to_sign, signature, &bytes), "C_Sign");
}

static void by_file(void) {
    size_t bytes = sizeof signature;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    EVP_PKEY_CTX *settings = NULL;
    require(EVP_DigestSignInit(context, &settings, digest, NULL, file_key) == 1, "EVP_DigestSignInit");
    if (EVP_PKEY_is_a(file_key, "RSA"))
        require(EVP_PKEY_CTX_set_rsa_padding(settings, RSA_PKCS1_PSS_PADDING) == 1 &&
                    EVP_PKEY_CTX_set_rsa_pss_saltlen(settings, RSA_PSS_SALTLEN_DIGEST) == 1,
                "RSA-PSS");
    require(EVP_DigestSign(context, signature, &bytes, message, sizeof message) == 1, "EVP_DigestSign");
    EVP_MD_CTX_free(context);
}

static double cpu_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec * 1e6 + now.tv_nsec / 1e3;
}

static double time_one(void (*sign)(void), double milliseconds) {
    double began = cpu_us(), spent = 0;
    long count = 0;
    while (spent < milliseconds * 1000) {
        sign();
        count++;
        spent = cpu_us() - began;
    }
    return spent / count;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *values, int count) {
    qsort(values, count, sizeof *values, ascending);
    return values[count / 2];
}

int main(int argc, char **argv) {
    require(argc == 8, "usage: signing_cost MODULE TOKEN PIN OBJECT KEY.PEM ROUNDS MILLISECONDS: this");
    FILE *file = fopen(argv[5], "r");
    require(file != NULL, argv[5]);
    file_key = PEM_read_PrivateKey(file, NULL, NULL, NULL);
    require(file_key != NULL, "reading the key");
    int rounds = atoi(argv[6]);
    require(rounds > 0 && rounds <= ROUNDS_MAX, "1 to 1000 rounds: this");
    double milliseconds = atof(argv[7]);

    to_sign = 32;
    digest = EVP_sha256();
    if (EVP_PKEY_is_a(file_key, "RSA")) {
        mechanism = (CK_MECHANISM){CKM_RSA_PKCS_PSS, &pss, sizeof pss};
    } else if (EVP_PKEY_is_a(file_key, "EC")) {
        mechanism = (CK_MECHANISM){CKM_ECDSA, NULL, 0};
    } else {
        mechanism = (CK_MECHANISM){CKM_ML_DSA_3_2, NULL, 0};
        to_sign = sizeof message;
        digest = NULL;
    }
    open_token(argv[1], argv[2], argv[3], argv[4]);
    by_token();
    by_file();

    static double token_us[ROUNDS_MAX], file_us[ROUNDS_MAX], difference[ROUNDS_MAX];
    for (int round = 0; round < rounds; round++) {
        token_us[round] = time_one(by_token, milliseconds);
        file_us[round] = time_one(by_file, milliseconds);
        difference[round] = token_us[round] - file_us[round];
    }
    printf("%.1f %.1f %.1f\n", median(token_us, rounds), median(file_us, rounds), median(difference, rounds));
    return 0;
}
