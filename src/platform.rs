//! What is particular to a platform, such as the ciphers that it encrypts its users' secrets with.

pub mod keyfit;
