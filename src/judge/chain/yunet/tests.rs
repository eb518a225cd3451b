use proptest::prelude::*;

use crate::judge::chain::yunet::*;

fn face(bounds: [f64; 4], score: f32) -> Face {
    Face {
        bounds,
        landmarks: [[0.0; 2]; 5],
        score,
    }
}

prop_compose! {
    fn any_face()(x in -50.0..600.0f64, y in -50.0..600.0f64, w in 0.0..300.0f64, h in 0.0..300.0f64,
                  score in 0.0f32..1.0) -> Face {
        face([x, y, x + w, y + h], score)
    }
}

fn overlap(a: &Face, b: &Face) -> f32 {
    Rect::new(a.bounds).overlap(&Rect::new(b.bounds))
}

proptest! {
    #[test]
    fn what_stays_is_best_first_and_apart(
        faces in proptest::collection::vec(any_face(), 0..60),
        most in 0.0f32..1.0,
    ) {
        let kept = suppress(faces.clone(), most);
        for (i, a) in kept.iter().enumerate() {
            prop_assert!(faces.contains(a));
            for b in &kept[..i] {
                prop_assert!(b.score >= a.score);
                prop_assert!(overlap(a, b) <= most);
            }
        }
        // Whatever went had to make way for a better one.
        for gone in faces.iter().filter(|face| !kept.contains(face)) {
            let better = kept.iter().any(|k| k.score >= gone.score && overlap(k, gone) > most);
            prop_assert!(better);
        }
        prop_assert_eq!(suppress(kept.clone(), most), kept);
    }

    #[test]
    fn overlap_is_a_symmetric_share(a in any_face(), b in any_face()) {
        let share = overlap(&a, &b);
        prop_assert!((0.0..=1.0).contains(&share));
        prop_assert_eq!(share, overlap(&b, &a));
        prop_assert_eq!(overlap(&a, &a), 1.0);
    }

    /// A face put into a cell comes out where it was.
    #[test]
    fn decoding_undoes_encoding(
        stride in prop::sample::select(STRIDES.to_vec()),
        columns in 1usize..9,
        rows in 1usize..9,
        cell in any::<prop::sample::Index>(),
        center in prop::array::uniform2(-3.0f64..3.0),
        size in prop::array::uniform2(1.0f64..500.0),
        points in prop::array::uniform10(-200.0f64..200.0),
        (cls, obj) in (0.05f32..1.5, 0.05f32..1.5),
    ) {
        let cells = columns * rows;
        let cell = cell.index(cells);
        let (s, corner) = (stride as f64, [(cell % columns) as f64, (cell / columns) as f64]);
        let at = [(corner[0] + center[0]) * s, (corner[1] + center[1]) * s];
        let mut grid = [vec![0.0f32; cells], vec![1.0; cells], vec![0.0; 4 * cells], vec![0.0; 10 * cells]];
        grid[0][cell] = cls;
        grid[1][cell] = obj;
        let log = size.map(|n| (n / s).ln() as f32);
        grid[2][4 * cell..][..4].copy_from_slice(&[center[0] as f32, center[1] as f32, log[0], log[1]]);
        for (i, p) in points.iter().enumerate() {
            grid[3][10 * cell + i] = (p / s - corner[i % 2]) as f32;
        }
        let [cls_all, obj_all, bbox, kps] = &grid;
        let grid = Grid { stride, columns, cls: cls_all, obj: obj_all, bbox, kps };
        let limit = LARGEST * columns.max(rows) as f64 * s;
        prop_assume!(size.iter().chain(&points).chain(&at).all(|n| n.abs() < limit));
        let found = grid.decode(0.01).unwrap();
        prop_assert_eq!(found.len(), 1);
        // fp32 numbers of up to 500, and the exponential of one.
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-3;
        let [left, top, right, bottom] = found[0].bounds;
        prop_assert!(near((left + right) / 2.0, at[0]) && near((top + bottom) / 2.0, at[1]));
        prop_assert!(near(right - left, size[0]) && near(bottom - top, size[1]));
        for (a, b) in found[0].landmarks.iter().flatten().zip(&points) {
            prop_assert!(near(*a, *b), "{} for {}", a, b);
        }
        prop_assert_eq!(found[0].score, (cls.min(1.0) * obj.min(1.0)).sqrt());
        prop_assert!(grid.decode(1.0).unwrap().len() <= 1);
    }

    /// No answer, however broken, is more than an error.
    #[test]
    fn nonsense_is_refused(bbox in prop::array::uniform4(any::<f32>()), cls in any::<f32>()) {
        let (kps, obj) = ([0.5; 10], [1.0]);
        let cls = [cls];
        let grid = Grid { stride: 8, columns: 1, cls: &cls, obj: &obj, bbox: &bbox, kps: &kps };
        if let Ok(faces) = grid.decode(0.5) {
            for face in suppress(faces, 0.3) {
                prop_assert!(face.bounds.iter().all(|n| n.abs() <= 2.0 * LARGEST * 8.0));
            }
        }
    }
}

#[test]
fn boxes_without_area_are_one() {
    let dots = vec![
        face([5.0, 5.0, 5.5, 5.5], 0.9),
        face([400.0, 9.0, 400.2, 9.0], 0.8),
    ];
    // As OpenCV has it: two empty boxes overlap wholly.
    assert_eq!(suppress(dots.clone(), 0.3), &dots[..1]);
}

#[test]
fn of_equal_scores_the_first_stays() {
    let same = |x: f64| face([x, 0.0, x + 100.0, 100.0], 0.5);
    assert_eq!(suppress(vec![same(0.0), same(1.0)], 0.3), [same(0.0)]);
}
