/* Makes a TLS context, as every server and client does first. OPENSSL_CONF says what is activated. Status 0 when it is
 * made; 1, with the reasons on stderr, when it is refused. */
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>

int main(void)
{
    SSL_CTX *context = SSL_CTX_new(TLS_method());
    if (context == NULL) {
        ERR_print_errors_fp(stderr);
        return 1;
    }
    SSL_CTX_free(context);
    return 0;
}
