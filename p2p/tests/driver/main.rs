//! Real drivers over loopback.

mod admission;
mod links;
mod support;
mod trust;
