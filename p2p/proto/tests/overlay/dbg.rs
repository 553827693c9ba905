use crate::network::*;
use crate::invariants::*;
#[test]
fn dbg() {
    for seed in 0..20 {
    let mut network = crate::joins::through_one_contact(seed, 64);
    network.run(60_000);
    connected(&network, 3).unwrap();
    let (mut p, mut r) = (vec![], vec![]);
    for n in network.nodes.values() { p.push(n.views.passive().len()); r.push(n.healing.remembered().len()); }
    p.sort(); r.sort();
    println!("passive {} {} {}, remembered {} {} {}", p[0], p[32], p[63], r[0], r[32], r[63]);
    for i in 0..32 { network.kill(id(i)); }
    network.run(10_000);
    for n in network.nodes.values() { if n.views.active().len() < 3 { println!("{seed} {} {:?} a {:?} p {:?} r {:?}", n.record.name, n.record.id, n.views.active().map(|p| &p.name).collect::<Vec<_>>(), n.views.passive().map(|p| &p.name).collect::<Vec<_>>(), n.healing.remembered().iter().map(|p| p.name.clone()).collect::<Vec<_>>());
      let s = format!("{:?}", n.record.id); for l in network.trace.lines().filter(|l| l.contains(&s)).rev().take(40) { println!("{l}"); } println!("{:?}", n.views); } }
    }
}
