//! The master: namespace over journal, sync with under stores, ring, leases and services.
