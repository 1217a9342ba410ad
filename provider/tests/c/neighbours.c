/* Prints which provider libcrypto takes for RSA and EC keys that are not in a token, in each place where it chooses one, while
 * OPENSSL_CONF says which tokens there are. One line a type:
 *
 *   TYPE generated=P pkcs8=P traditional=P der=P public=P certificate=P store=P signature=P
 *
 * `pkcs8`, `traditional` and `der` are the private key read from files of these kinds, `public` and `certificate` the public key
 * of a SubjectPublicKeyInfo and of a certificate, `store` the private key that OSSL_STORE finds in a file behind the certificate,
 * and `signature` who signs with it. Then who agrees on a secret over P-256:
 *
 *   P-256 exchange=P
 *
 * Any failure ends the program with status 1 and its reasons on stderr; so does an error that is left in the queue. */
#include "common.h"

#include <openssl/crypto.h>
#include <openssl/decoder.h>
#include <openssl/encoder.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <openssl/store.h>
#include <openssl/x509.h>
#include <string.h>
#include <unistd.h>

static const char *provider_of(const EVP_PKEY *key)
{
    return OSSL_PROVIDER_get0_name(EVP_PKEY_get0_provider(key));
}

/* The key in an encoding of OpenSSL's, read again. */
static const char *read_from(EVP_PKEY *key, int selection, const char *form, const char *structure)
{
    static char provider[32];
    unsigned char *data = NULL;
    size_t size = 0;
    EVP_PKEY *read = NULL;
    OSSL_ENCODER_CTX *encoder = OSSL_ENCODER_CTX_new_for_pkey(key, selection, form, structure, NULL);
    REQUIRE(encoder && OSSL_ENCODER_to_data(encoder, &data, &size) == 1);
    BIO *bio = BIO_new_mem_buf(data, (int)size);
    REQUIRE(bio);
    if (strcmp(form, "DER") == 0)
        read = selection == EVP_PKEY_KEYPAIR ? d2i_PrivateKey_bio(bio, NULL) : d2i_PUBKEY_bio(bio, NULL);
    else
        read = selection == EVP_PKEY_KEYPAIR ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL)
                                             : PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL);
    REQUIRE(read && EVP_PKEY_eq(read, key) == 1);
    strncpy(provider, provider_of(read), sizeof(provider) - 1);
    EVP_PKEY_free(read);
    BIO_free(bio);
    OPENSSL_free(data);
    OSSL_ENCODER_CTX_free(encoder);
    return provider;
}

static X509 *certificate_of(EVP_PKEY *key)
{
    X509 *certificate = X509_new();
    X509_NAME *name = X509_NAME_new();
    REQUIRE(certificate && name);
    REQUIRE(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"test", -1, -1, 0) == 1);
    REQUIRE(X509_set_version(certificate, 2) == 1 && ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1) == 1);
    REQUIRE(X509_set_subject_name(certificate, name) == 1 && X509_set_issuer_name(certificate, name) == 1);
    REQUIRE(X509_gmtime_adj(X509_getm_notBefore(certificate), 0) && X509_gmtime_adj(X509_getm_notAfter(certificate), 86400));
    REQUIRE(X509_set_pubkey(certificate, key) == 1 && X509_sign(certificate, key, EVP_sha256()) > 0);
    X509_NAME_free(name);
    return certificate;
}

static void certificate_and_store(EVP_PKEY *key)
{
    X509 *made = certificate_of(key), *read;
    BIO *bio = BIO_new(BIO_s_mem());
    REQUIRE(bio && PEM_write_bio_X509(bio, made) == 1);
    REQUIRE(PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1);
    char path[] = "/tmp/neighbours.XXXXXX", *data;
    long size = BIO_get_mem_data(bio, &data);
    int file = mkstemp(path);
    REQUIRE(file >= 0 && write(file, data, (size_t)size) == size && close(file) == 0);
    read = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    REQUIRE(read && X509_verify(read, key) == 1 && X509_check_private_key(read, key) == 1);
    printf(" certificate=%s", provider_of(X509_get0_pubkey(read)));
    X509_free(read);

    OSSL_STORE_CTX *store = OSSL_STORE_open(path, NULL, NULL, NULL, NULL);
    REQUIRE(store && OSSL_STORE_expect(store, OSSL_STORE_INFO_PKEY) == 1);
    OSSL_STORE_INFO *found = NULL;
    while (found == NULL && !OSSL_STORE_eof(store))
        found = OSSL_STORE_load(store);
    REQUIRE(found);
    EVP_PKEY *stored = OSSL_STORE_INFO_get1_PKEY(found);
    REQUIRE(stored && EVP_PKEY_eq(stored, key) == 1);
    /* Errors on the way to the key are OpenSSL's own: the certificate is none. */
    ERR_clear_error();
    printf(" store=%s", provider_of(stored));
    EVP_PKEY_free(stored);
    OSSL_STORE_INFO_free(found);
    OSSL_STORE_close(store);
    unlink(path);
    BIO_free(bio);
    X509_free(made);
}

static const char *signer_of(EVP_PKEY *key)
{
    unsigned char signature[512];
    size_t size = sizeof(signature);
    EVP_PKEY_CTX *inner;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    REQUIRE(context && EVP_DigestSignInit_ex(context, &inner, "SHA256", NULL, NULL, key, NULL) == 1);
    const char *name = OSSL_PROVIDER_get0_name(EVP_PKEY_CTX_get0_provider(inner));
    REQUIRE(EVP_DigestSign(context, signature, &size, signature, 1) == 1);
    EVP_MD_CTX_free(context);
    return name;
}

static void exchange(void)
{
    unsigned char secret[32];
    size_t size = sizeof(secret);
    EVP_PKEY *one = EVP_EC_gen("P-256"), *other = EVP_EC_gen("P-256");
    REQUIRE(one && other);
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, one, NULL);
    REQUIRE(context && EVP_PKEY_derive_init(context) == 1 && EVP_PKEY_derive_set_peer(context, other) == 1);
    REQUIRE(EVP_PKEY_derive(context, secret, &size) == 1 && size == sizeof(secret));
    printf("P-256 exchange=%s\n", OSSL_PROVIDER_get0_name(EVP_PKEY_CTX_get0_provider(context)));
    EVP_PKEY_CTX_free(context);
    EVP_PKEY_free(one);
    EVP_PKEY_free(other);
}

int main(void)
{
    REQUIRE(OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG, NULL) == 1);
    for (int is_ec = 0; is_ec < 2; is_ec++) {
        EVP_PKEY *key = is_ec ? EVP_EC_gen("P-256") : EVP_RSA_gen(2048);
        REQUIRE(key);
        printf("%s generated=%s", is_ec ? "EC" : "RSA", provider_of(key));
        printf(" pkcs8=%s", read_from(key, EVP_PKEY_KEYPAIR, "PEM", "PrivateKeyInfo"));
        printf(" traditional=%s", read_from(key, EVP_PKEY_KEYPAIR, "PEM", "type-specific"));
        printf(" der=%s", read_from(key, EVP_PKEY_KEYPAIR, "DER", is_ec ? "PrivateKeyInfo" : "type-specific"));
        printf(" public=%s", read_from(key, EVP_PKEY_PUBLIC_KEY, "PEM", "SubjectPublicKeyInfo"));
        REQUIRE(ERR_peek_error() == 0);
        certificate_and_store(key);
        printf(" signature=%s\n", signer_of(key));
        REQUIRE(ERR_peek_error() == 0);
        EVP_PKEY_free(key);
    }
    exchange();
    REQUIRE(ERR_peek_error() == 0);
    return 0;
}
