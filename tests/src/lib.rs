//! End-to-end tests of Headpond against real servers, mounts and processes.
