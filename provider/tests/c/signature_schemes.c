/* Prints the rows of the capability TLS-SIGALG of the provider `qtls`, one a line, and then the parameter in which it says
 * the same for people. OPENSSL_CONF says what is activated. */
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <stdio.h>
#include <string.h>

static void print(const OSSL_PARAM *params, const char *label, const char *name)
{
    const OSSL_PARAM *param = OSSL_PARAM_locate_const(params, name);
    const char *text = NULL;
    unsigned int number = 0;
    if (param == NULL)
        printf(" %s=-", label);
    else if (OSSL_PARAM_get_utf8_string_ptr(param, &text) == 1)
        printf(" %s=%s", label, text);
    else if (OSSL_PARAM_get_uint(param, &number) == 1)
        printf(" %s=%u", label, number);
    else
        printf(" %s=?", label);
}

static int row(const OSSL_PARAM *params, void *unused)
{
    (void)unused;
    fputs("row", stdout);
    /* The names as provider-base(7) has them: OpenSSL 3.0's headers lack them. */
    print(params, "iana", "tls-sigalg-iana-name");
    print(params, "name", "tls-sigalg-name");
    print(params, "oid", "tls-sigalg-oid");
    print(params, "keytype", "tls-sigalg-keytype");
    print(params, "code", "tls-sigalg-code-point");
    print(params, "bits", "tls-sigalg-sec-bits");
    print(params, "min", "tls-min-tls");
    print(params, "max", "tls-max-tls");
    puts("");
    return 1;
}

static int look(OSSL_PROVIDER *provider, void *failed)
{
    char text[256] = "";
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string("qtls-signatures", text, sizeof(text)), OSSL_PARAM_END};
    if (strcmp(OSSL_PROVIDER_get0_name(provider), "qtls") != 0)
        return 1;
    if (OSSL_PROVIDER_get_capabilities(provider, "TLS-SIGALG", row, NULL) != 1 || OSSL_PROVIDER_get_params(provider, params) != 1)
        *(int *)failed = 1;
    printf("qtls-signatures=%s\n", text);
    return 1;
}

int main(void)
{
    int failed = 0;
    if (OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG, NULL) != 1 || OSSL_PROVIDER_do_all(NULL, look, &failed) != 1 || failed) {
        ERR_print_errors_fp(stderr);
        return 1;
    }
    return 0;
}
