//! TLS with endpoints: whom the proxy believes, what becomes of those it does not, and what of all this is kept.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

mod stage;

mod carried;
mod http2;
mod kept;
mod moved;
mod renewed;
mod served;
mod trust;
