//! Any file, of any name, comes out of our upload's frame as it went in, however it is split on the way.
//!
//! `cargo +nightly fuzz run multipart_frame fuzz/corpus/multipart_frame fuzz/seeds/multipart_frame -- -max_total_time=60`
//!
//! The first two bytes of an input say how long the pieces are, and how long the file's name is; the rest is name and
//! file.
#![no_main]

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::FutureExt;
use libfuzzer_sys::fuzz_target;
use marqueue::marketo::{MultipartFrame, max_content_bytes};
use multer::Multipart;

fuzz_target!(|input: &[u8]| {
    let [size, name, rest @ ..] = input else { return };
    let (name, file) = rest.split_at(usize::from(*name).min(rest.len()));
    let name = String::from_utf8_lossy(name);
    let frame = MultipartFrame::new(&name);
    let body = [frame.head.as_bytes(), file, frame.tail.as_bytes()].concat();
    assert_eq!(frame.body_bytes(file.len() as u64), body.len() as u64);
    assert_eq!(max_content_bytes(&name, body.len() as u64), file.len() as u64);

    let boundary = multer::parse_boundary(frame.content_type()).expect("a boundary that can be read");
    let pieces: Vec<_> = body.chunks(usize::from(*size).max(1)).map(Bytes::copy_from_slice).collect();
    let pieces = futures_util::stream::iter(pieces.into_iter().map(Ok::<_, Infallible>));
    let read = async {
        let mut form = Multipart::new(pieces, boundary);
        let field = form.next_field().await.expect("a form").expect("a part");
        assert_eq!(field.name(), Some("file"));
        assert!(field.file_name().is_some_and(|name| !name.is_empty()));
        assert_eq!(field.bytes().await.expect("its content"), file);
        assert!(form.next_field().await.expect("the form's end").is_none(), "one part");
    };
    read.now_or_never().expect("all of it is there");
});
