//! What `qtls probe`, `qtls serve` and `qtls bench` are made of, as a library so that tests and the
//! fuzzer reach it.

pub mod bench;
pub mod groups;
mod kem_group;
pub mod net;
pub mod probe;
pub mod serve;
pub mod style;
pub mod tls;
