//! A file of leads as a list of customers has them: names that come again, numbers that do not.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const FIRST: [&str; 8] = ["Ann", "Ben", "Chloé", "David", "Eva", "Frank", "Grace", "Hiroshi"];
const LAST: [&str; 8] = ["Adams", "Baker", "Chen", "Díaz", "Evans", "Fischer", "García", "Hughes"];
const CITY: [&str; 8] = ["Berlin", "Boston", "Chicago", "Dublin", "Lima", "\"Paris, Texas\"", "São Paulo", "Tokyo"];

/// Writes a file of at least `size` bytes, the same in each run. Returns its bytes.
pub fn write_leads(path: &Path, size: u64) -> u64 {
    let file = File::create(path).expect("a file");
    let mut output = BufWriter::with_capacity(1 << 20, file);
    let header = "email,firstName,lastName,company,city,phone,leadScore\n";
    output.write_all(header.as_bytes()).expect("there is room");
    let mut bytes = header.len() as u64;
    // Marsaglia's xorshift.
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut row = Vec::new();
    while bytes < size {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let pick = |shift: u32| usize::from((random >> shift) as u8 % 8);
        let (first, last, city) = (FIRST[pick(0)], LAST[pick(8)], CITY[pick(16)]);
        let (number, phone, score) = (random >> 40, random % 10_000_000, random % 101);
        row.clear();
        writeln!(row, "{last}.{number}@example.com,{first},{last},Company {number:x},{city},+1 555 {phone:07},{score}")
            .expect("writing to memory");
        output.write_all(&row).expect("there is room");
        bytes += row.len() as u64;
    }
    output.into_inner().expect("there is room").sync_all().expect("the disk writes");
    bytes
}

/// Measures `cp` and a wait for the disk.
pub fn copied(from: &Path, to: &Path) -> Duration {
    let began = Instant::now();
    assert!(Command::new("cp").args([from, to]).status().expect("cp runs").success());
    assert!(Command::new("sync").arg(to).status().expect("sync runs").success());
    began.elapsed()
}
