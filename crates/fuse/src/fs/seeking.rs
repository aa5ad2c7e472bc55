//! Finding data and holes.

use headpond_client::Stretch;
use headpond_types::Result;

use super::{FileSystem, Source, SourceFile, SourceWriter};

impl<S: Source, B: Send + Sync + 'static> FileSystem<S, B> {
    /// Where from `offset` on the next such stretch of an open file begins; `None`: nowhere. What is not being written here is all data.
    pub(crate) async fn next_stretch(&self, node: u64, handle: u64, offset: u64, what: Stretch) -> Result<Option<u64>> {
        if let Some(writer) = self.writer_of(node, handle) {
            return self.within("searching for holes", writer.next_stretch(offset, what)).await;
        }
        let length = match self.readable(node) {
            Some(file) => file.attr().size,
            None => self.attr(node).await?.found.map_or(0, |(_, attr)| attr.size),
        };
        Ok(what.next_in_data(offset, length))
    }
}
