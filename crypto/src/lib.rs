//! Algorithms of Q-TLS.
