//! One suite that every driver and wrapper passes, and what is particular to each.

mod answers;
mod cases;
mod local;
mod minio;
mod s3;
mod wrappers;

use std::sync::Arc;

use headpond_ufs::{Local, Memory};

#[tokio::test]
async fn memory_conforms() {
    cases::run(Arc::new(Memory::named("conformance"))).await;
}

#[tokio::test]
async fn local_conforms() {
    let directory = tempfile::tempdir().unwrap();
    cases::run(Arc::new(Local::open(directory.path()).await.unwrap())).await;
}
