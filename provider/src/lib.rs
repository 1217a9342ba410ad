//! The OpenSSL face of Q-TLS.
