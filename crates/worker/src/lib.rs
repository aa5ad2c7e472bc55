//! The worker: serves pages from its store, fills them from peers and under stores.
