//! Groups in virtual time, on machines that crash and a network that fails.

mod elections;
mod faults;
mod leases;
mod members;
mod world;
