/* Prints which provider libcrypto takes for a key in each place where it chooses one, and lets both providers' keys,
 * signatures and files meet where both have the algorithm. OPENSSL_CONF says what is activated. One line an algorithm:
 *
 *   NAME keymgmt=P operation=P encoder=P decoded=P public=P certificate=P crossed=N
 *
 * `operation` is the signature or the KEM, `decoded` the private key read from PEM, `public` and `certificate` the public
 * key of a SubjectPublicKeyInfo and of a certificate. N counts the directions in which keys crossed: 2 where both
 * providers have the algorithm, else 0. Any failure ends the program with status 1 and its reasons on stderr. */
#include "common.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/encoder.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <openssl/x509.h>
#include <string.h>

static const char *const algorithms[] = {"ML-DSA-44",
                                         "ML-DSA-65",
                                         "ML-DSA-87",
                                         "ML-KEM-512",
                                         "ML-KEM-768",
                                         "ML-KEM-1024",
                                         "id-MLDSA44-ECDSA-P256-SHA256",
                                         "id-MLDSA65-ECDSA-P256-SHA512",
                                         "id-MLDSA65-ECDSA-P384-SHA512",
                                         "id-MLDSA65-Ed25519-SHA512",
                                         "id-MLDSA87-ECDSA-P384-SHA512"};

static const unsigned char message[] = "a message";

static const char *provider_of(const EVP_PKEY *key)
{
    return OSSL_PROVIDER_get0_name(EVP_PKEY_get0_provider(key));
}

static int is_kem(const char *algorithm)
{
    return strncmp(algorithm, "ML-KEM", 6) == 0;
}

static const char *operation_provider(const char *algorithm)
{
    const char *name;
    if (is_kem(algorithm)) {
        EVP_KEM *kem = EVP_KEM_fetch(NULL, algorithm, NULL);
        REQUIRE(kem);
        name = OSSL_PROVIDER_get0_name(EVP_KEM_get0_provider(kem));
        EVP_KEM_free(kem);
    } else {
        EVP_SIGNATURE *signature = EVP_SIGNATURE_fetch(NULL, algorithm, NULL);
        REQUIRE(signature);
        name = OSSL_PROVIDER_get0_name(EVP_SIGNATURE_get0_provider(signature));
        EVP_SIGNATURE_free(signature);
    }
    return name;
}

static const char *encoder_provider(const char *algorithm)
{
    OSSL_ENCODER *encoder = OSSL_ENCODER_fetch(NULL, algorithm, "output=pem,structure=PrivateKeyInfo");
    REQUIRE(encoder);
    const char *name = OSSL_PROVIDER_get0_name(OSSL_ENCODER_get0_provider(encoder));
    OSSL_ENCODER_free(encoder);
    return name;
}

/* A key written to PEM and read again by whoever reads it with these properties. */
static EVP_PKEY *through_file(EVP_PKEY *key, int private, const char *properties)
{
    EVP_PKEY *read = NULL;
    BIO *bio = BIO_new(BIO_s_mem());
    REQUIRE(bio);
    if (private) {
        REQUIRE(PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1);
        read = PEM_read_bio_PrivateKey_ex(bio, NULL, NULL, NULL, NULL, properties);
    } else {
        REQUIRE(PEM_write_bio_PUBKEY(bio, key) == 1);
        read = PEM_read_bio_PUBKEY_ex(bio, NULL, NULL, NULL, NULL, properties);
    }
    BIO_free(bio);
    REQUIRE(read && EVP_PKEY_eq(key, read) == 1);
    return read;
}

/* The key of a certificate that `issuer` signed, after the certificate was a file; the signature is verified. */
static EVP_PKEY *through_certificate(EVP_PKEY *subject, EVP_PKEY *issuer)
{
    X509 *certificate = X509_new(), *read;
    X509_NAME *name = X509_NAME_new();
    BIO *bio = BIO_new(BIO_s_mem());
    REQUIRE(certificate && name && bio);
    REQUIRE(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"test", -1, -1, 0) == 1);
    REQUIRE(X509_set_version(certificate, 2) == 1 && ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1) == 1);
    REQUIRE(X509_set_subject_name(certificate, name) == 1 && X509_set_issuer_name(certificate, name) == 1);
    REQUIRE(X509_gmtime_adj(X509_getm_notBefore(certificate), 0) && X509_gmtime_adj(X509_getm_notAfter(certificate), 86400));
    REQUIRE(X509_set_pubkey(certificate, subject) == 1 && X509_sign(certificate, issuer, NULL) > 0);
    REQUIRE(PEM_write_bio_X509(bio, certificate) == 1);
    read = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    REQUIRE(read && X509_verify(read, issuer) == 1);
    EVP_PKEY *key = X509_get_pubkey(read);
    REQUIRE(key && EVP_PKEY_eq(key, subject) == 1);
    X509_free(read);
    X509_free(certificate);
    X509_NAME_free(name);
    BIO_free(bio);
    return key;
}

/* The same key in another provider, from its parameters. */
static EVP_PKEY *through_parameters(const char *algorithm, EVP_PKEY *key, int selection, const char *properties)
{
    OSSL_PARAM *params = NULL;
    EVP_PKEY *imported = NULL;
    REQUIRE(EVP_PKEY_todata(key, selection, &params) == 1);
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, algorithm, properties);
    REQUIRE(context && EVP_PKEY_fromdata_init(context) == 1);
    REQUIRE(EVP_PKEY_fromdata(context, &imported, selection, params) == 1);
    EVP_PKEY_CTX_free(context);
    OSSL_PARAM_free(params);
    return imported;
}

/* What one provider signs with its key verifies in the other with its own; text and settings included. */
static void sign_and_verify(EVP_PKEY *signing, const char *signer, EVP_PKEY *verifying, const char *verifier)
{
    unsigned char signature[8192], string[] = "context";
    for (int with_context = 0; with_context < 2; with_context++) {
        OSSL_PARAM params[] = {OSSL_PARAM_END, OSSL_PARAM_END};
        size_t size = sizeof(signature);
        if (with_context)
            params[0] = OSSL_PARAM_construct_octet_string("context-string", string, sizeof(string) - 1);
        EVP_MD_CTX *context = EVP_MD_CTX_new();
        REQUIRE(context && EVP_DigestSignInit_ex(context, NULL, NULL, NULL, signer, signing, params) == 1);
        REQUIRE(EVP_DigestSign(context, signature, &size, message, sizeof(message)) == 1);
        EVP_MD_CTX_free(context);
        context = EVP_MD_CTX_new();
        REQUIRE(context && EVP_DigestVerifyInit_ex(context, NULL, NULL, NULL, verifier, verifying, params) == 1);
        REQUIRE(EVP_DigestVerify(context, signature, size, message, sizeof(message)) == 1);
        REQUIRE(EVP_DigestVerify(context, signature, size, message, sizeof(message) - 1) != 1);
        ERR_clear_error();
        EVP_MD_CTX_free(context);
    }
}

static void sign_with(EVP_PKEY *key, const char *properties, const OSSL_PARAM *params, unsigned char *signature, size_t *size)
{
    /* As long as the message representative mu, so that it can stand for one. */
    static const unsigned char mu[64] = {1, 2, 3};
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    REQUIRE(context && EVP_DigestSignInit_ex(context, NULL, NULL, NULL, properties, key, params) == 1);
    REQUIRE(EVP_DigestSign(context, signature, size, mu, sizeof(mu)) == 1);
    EVP_MD_CTX_free(context);
}

/* One key in two providers gives the same signature where nothing is random, under each setting that there is. */
static void sign_alike(EVP_PKEY *one, const char *properties, EVP_PKEY *other, const char *other_properties)
{
    unsigned char signatures[2][8192], string[] = "context", entropy[32] = {7};
    int yes = 1, no = 0;
    OSSL_PARAM deterministic = OSSL_PARAM_construct_int("deterministic", &yes), end = OSSL_PARAM_construct_end();
    OSSL_PARAM settings[][3] = {
        {deterministic, end, end},
        {deterministic, OSSL_PARAM_construct_octet_string("context-string", string, sizeof(string)), end},
        {deterministic, OSSL_PARAM_construct_int("message-encoding", &no), end},
        {deterministic, OSSL_PARAM_construct_int("mu", &yes), end},
        {OSSL_PARAM_construct_octet_string("test-entropy", entropy, sizeof(entropy)), end, end},
    };
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        size_t sizes[2] = {sizeof(signatures[0]), sizeof(signatures[1])};
        sign_with(one, properties, settings[i], signatures[0], &sizes[0]);
        sign_with(other, other_properties, settings[i], signatures[1], &sizes[1]);
        REQUIRE(sizes[0] == sizes[1] && memcmp(signatures[0], signatures[1], sizes[0]) == 0);
    }
}

static void encapsulate_and_decapsulate(EVP_PKEY *public, const char *sender, EVP_PKEY *private, const char *receiver)
{
    unsigned char ciphertext[2048], sent[64], received[64];
    size_t ciphertext_bytes = sizeof(ciphertext), sent_bytes = sizeof(sent), received_bytes = sizeof(received);
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, public, sender);
    REQUIRE(context && EVP_PKEY_encapsulate_init(context, NULL) == 1);
    REQUIRE(EVP_PKEY_encapsulate(context, ciphertext, &ciphertext_bytes, sent, &sent_bytes) == 1);
    EVP_PKEY_CTX_free(context);
    context = EVP_PKEY_CTX_new_from_pkey(NULL, private, receiver);
    REQUIRE(context && EVP_PKEY_decapsulate_init(context, NULL) == 1);
    REQUIRE(EVP_PKEY_decapsulate(context, received, &received_bytes, ciphertext, ciphertext_bytes) == 1);
    REQUIRE(sent_bytes == received_bytes && memcmp(sent, received, sent_bytes) == 0);
    EVP_PKEY_CTX_free(context);
}

/* The text of a key by its own provider's encoder. */
static BIO *text(EVP_PKEY *key, int selection, const char *properties)
{
    BIO *bio = BIO_new(BIO_s_mem());
    OSSL_ENCODER_CTX *encoder = OSSL_ENCODER_CTX_new_for_pkey(key, selection, "TEXT", NULL, properties);
    REQUIRE(bio && encoder && OSSL_ENCODER_to_bio(encoder, bio) == 1);
    OSSL_ENCODER_CTX_free(encoder);
    return bio;
}

static void print_alike(EVP_PKEY *one, const char *properties, EVP_PKEY *other, const char *other_properties)
{
    const int selections[] = {EVP_PKEY_KEYPAIR, EVP_PKEY_PUBLIC_KEY};
    for (int i = 0; i < 2; i++) {
        char *data, *other_data;
        BIO *bio = text(one, selections[i], properties), *other_bio = text(other, selections[i], other_properties);
        long size = BIO_get_mem_data(bio, &data), other_size = BIO_get_mem_data(other_bio, &other_data);
        REQUIRE(size > 1000 && size == other_size && memcmp(data, other_data, size) == 0);
        BIO_free(bio);
        BIO_free(other_bio);
    }
}

/* A key of `owner` in the hands of `other`, by its parameters and by its files. */
static void cross(const char *algorithm, const char *owner, const char *other)
{
    EVP_PKEY *key = generate(algorithm, owner);
    EVP_PKEY *copies[] = {through_parameters(algorithm, key, EVP_PKEY_KEYPAIR, other), through_file(key, 1, other)};
    EVP_PKEY *publics[] = {through_parameters(algorithm, key, EVP_PKEY_PUBLIC_KEY, other), through_file(key, 0, other)};
    if (!is_kem(algorithm))
        sign_alike(key, owner, copies[0], other);
    /* 4.0 puts 16 bytes into a line and not 15. */
    if (OPENSSL_version_major() < 4)
        print_alike(key, owner, copies[0], other);
    for (int i = 0; i < 2; i++) {
        const char *name = strchr(other, '=') + 1;
        REQUIRE(strcmp(provider_of(copies[i]), name) == 0 && strcmp(provider_of(publics[i]), name) == 0);
        if (is_kem(algorithm)) {
            encapsulate_and_decapsulate(publics[i], other, key, owner);
            encapsulate_and_decapsulate(key, owner, copies[i], other);
        } else {
            sign_and_verify(key, owner, publics[i], other);
            sign_and_verify(copies[i], other, key, owner);
        }
        EVP_PKEY_free(copies[i]);
        EVP_PKEY_free(publics[i]);
    }
    EVP_PKEY_free(key);
}

int main(void)
{
    REQUIRE(OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG, NULL) == 1);
    for (size_t i = 0; i < sizeof(algorithms) / sizeof(algorithms[0]); i++) {
        const char *algorithm = algorithms[i];
        EVP_PKEY *key = generate(algorithm, NULL);
        EVP_PKEY *issuer = is_kem(algorithm) ? EVP_EC_gen("P-256") : key;
        REQUIRE(issuer);
        EVP_PKEY *decoded = through_file(key, 1, NULL), *public = through_file(key, 0, NULL);
        EVP_PKEY *certified = through_certificate(key, issuer);
        printf("%s keymgmt=%s operation=%s encoder=%s decoded=%s public=%s certificate=%s", algorithm, provider_of(key),
               operation_provider(algorithm), encoder_provider(algorithm), provider_of(decoded), provider_of(public),
               provider_of(certified));
        if (issuer != key)
            EVP_PKEY_free(issuer);
        EVP_PKEY_free(key);
        EVP_PKEY_free(decoded);
        EVP_PKEY_free(public);
        EVP_PKEY_free(certified);
        if (has(algorithm, "provider=qtls") && has(algorithm, "provider=default")) {
            cross(algorithm, "provider=qtls", "provider=default");
            cross(algorithm, "provider=default", "provider=qtls");
            puts(" crossed=2");
        } else {
            puts(" crossed=0");
        }
    }
    REQUIRE(ERR_peek_error() == 0 && fflush(stdout) == 0);
    return 0;
}
