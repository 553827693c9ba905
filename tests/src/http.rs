//! Clients of the HTTP API that are not Starling's own.

use reqwest::{Client, ClientBuilder};

/// A client that keeps to the address it is given.
pub fn http_client() -> Client {
    http_client_builder().build().expect("a client")
}

/// What makes one. Its library wants to be told which implementation of cryptography it has.
pub fn http_client_builder() -> ClientBuilder {
    // Another test of this process may have told it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy()
}
