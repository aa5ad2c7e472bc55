//! One suite that every driver and wrapper passes.

mod cases;
mod minio;

use std::{collections::BTreeMap, sync::Arc};

use headpond_ufs::{Local, Memory, StoreUri, UnderStore, connect};
use minio::{BUCKET, Minio, TestCredentials};

#[tokio::test]
async fn memory_conforms() {
    cases::run(Arc::new(Memory::named("conformance"))).await;
}

#[tokio::test]
async fn local_conforms() {
    let directory = tempfile::tempdir().unwrap();
    cases::run(Arc::new(Local::open(directory.path()).await.unwrap())).await;
}

async fn connect_s3(minio: &Minio, bucket: &str, credentials: &str) -> Arc<dyn UnderStore> {
    let options =
        BTreeMap::from([("endpoint".to_owned(), minio.endpoint()), ("credentials".to_owned(), credentials.to_owned())]);
    let uri = StoreUri::parse(&format!("s3://{bucket}")).expect("a URI");
    connect(&uri, &options, &TestCredentials).await.expect("good options")
}

#[tokio::test]
async fn s3_conforms() {
    let minio = Minio::start().await;
    cases::run(connect_s3(&minio, BUCKET, "good").await).await;
}
