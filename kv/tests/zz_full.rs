mod common;
use common::*;
use starling_kv::*;
use bytes::Bytes;
#[test]
fn full() {
    let dir = std::path::PathBuf::from("/tmp/fulldisk");
    let e = RocksEngine::open(&dir.join("db"), &RocksOptions::default()).unwrap();
    let mut s = open(e.clone(), 1);
    let filler = dir.join("filler");
    std::fs::write(&filler, vec![1u8; 380 << 20]).unwrap();
    let mut n = 0;
    let err = loop {
        let w = write(&format!("k{n}"), Op::Put(Bytes::from(vec![n as u8; 1000])));
        match s.commit(NOW, vec![Batch { writes: vec![w] }]) { Ok(_) => n += 1, Err(e) => break e }
        if n > 100_000 { panic!("no full") }
    };
    println!("after {n}: {err:?}");
    println!("again {:?}", s.commit(NOW, vec![Batch { writes: vec![put("x", "y")] }]).err());
    assert!(s.reader().register(NOW, "default", b"k1").unwrap().is_some());
    std::fs::remove_file(&filler).unwrap();
    for t in 0..30 {
        let r = s.commit(NOW, vec![Batch { writes: vec![put("x", "y")] }]);
        println!("t{t} {:?}", r.as_ref().err());
        if r.is_ok() { break; }
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    assert_sound(&s);
    let root = s.root();
    drop(s); drop(e);
    let e = RocksEngine::open(&dir.join("db"), &RocksOptions::default()).unwrap();
    let s = open(e, 2);
    assert_eq!(s.root(), root);
    assert_sound(&s);
    assert!(s.reader().register(NOW, "default", format!("k{}", n-1).as_bytes()).unwrap().is_some());
}
