//! What happens during a made-up burst: when the frames are taken and what is in the way of each.
//!
//! Everything that disturbs a frame (the animal's place, its speed, what stands in front of it, the light, the focus)
//! is an Ornstein-Uhlenbeck process in real seconds, so frames half a second apart share their faults and frames a
//! minute apart do not. That is what makes the gaps between frames worth knowing.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Shortest and longest gap between two frames as planned, in seconds; missed frames make longer ones.
const GAP_SECONDS: (f64, f64) = (0.3, 60.0);

/// Share of planned frames that the camera misses.
const MISSED: f64 = 0.15;

/// Most and fewest frames of a burst.
const FRAMES: (usize, usize) = (3, 10);

/// How the scene is lit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Light {
    /// Colours, full light.
    Day,
    /// Colours, little light.
    Dusk,
    /// Grey, lit by the camera's infrared flash: bright in the middle.
    Infrared,
}

/// What stays the same during a burst.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How the scene is lit.
    pub light: Light,
    /// Direction of motion blur, in radians.
    pub angle: f32,
    /// JPEG quality of the camera, 1 to 100.
    pub quality: i32,
    /// Share of a whole photograph that the camera shows, 0 to 1.
    pub zoom: f64,
    /// Mirrors a whole photograph.
    pub mirrored: bool,
    /// One entry a frame, in order of time.
    pub frames: Vec<FramePlan>,
}

/// What is different in each frame. Lengths without a unit are shares of the frame's sides.
#[derive(Debug, Clone, Copy)]
pub struct FramePlan {
    /// Seconds since the first frame.
    pub seconds: f64,
    /// Whether the animal is before the camera.
    pub present: bool,
    /// Place of the animal's middle, as an offset from the frame's.
    pub place: (f64, f64),
    /// The animal's height.
    pub size: f64,
    /// Factor on the size since the burst's mean.
    pub growth: f64,
    /// Width of the animal as it turns away, as a share of its width from the side.
    pub narrowing: f64,
    /// Mirrors the animal.
    pub turned: bool,
    /// Turn of the animal in degrees.
    pub tilt: f64,
    /// Wandering of the camera's window over a whole photograph, in standard deviations.
    pub drift: (f64, f64),
    /// Length of the motion blur in pixels.
    pub blur: f32,
    /// How much stands in front of the animal, from 0.
    pub cover: f64,
    /// Where it stands, in standard deviations.
    pub cover_place: f64,
    /// Stops of light missing.
    pub dark: f32,
    /// Stops of light too many.
    pub glare: f32,
    /// Blur of the lens in standard deviations, in pixels.
    pub defocus: f32,
    /// Shake of the camera.
    pub shake: (f64, f64),
}

/// An Ornstein-Uhlenbeck process with mean 0 and variance 1.
struct Process {
    seconds: f64,
    value: f64,
}

impl Process {
    fn new(rng: &mut ChaCha8Rng, seconds: f64) -> Self {
        Self { seconds, value: normal(rng) }
    }

    fn after(&mut self, rng: &mut ChaCha8Rng, gap: f64) -> f64 {
        let kept = (-gap / self.seconds).exp();
        self.value = self.value * kept + (1.0 - kept * kept).sqrt() * normal(rng);
        self.value
    }
}

/// Draws a burst.
pub fn plan(rng: &mut ChaCha8Rng) -> Plan {
    let light = match rng.random::<f64>() {
        x if x < 0.6 => Light::Day,
        x if x < 0.8 => Light::Dusk,
        _ => Light::Infrared,
    };
    let base_dark = match light {
        Light::Day => 0.0,
        Light::Dusk => 0.5,
        Light::Infrared => 0.3,
    } + 0.3 * normal(rng).abs();
    let base_blur = 0.3 * normal(rng);
    let base_cover = 0.3 * normal(rng);
    let base_focus = 0.2 * normal(rng).abs();
    let base_size = 0.55 * (0.25 * normal(rng)).exp();
    let base_place = (rng.random_range(-0.2..0.2), rng.random_range(-0.1..0.15));
    let mirrored = rng.random_bool(0.5);
    // Memory of each process in seconds, from a passing blur to the light of the hour.
    let [
        mut here,
        mut blur,
        mut cover,
        mut cover_place,
        mut lit,
        mut focus,
        mut across,
        mut up,
        mut size,
        mut turn,
        mut tilt,
        mut aside,
    ] = [12.0, 3.0, 6.0, 10.0, 15.0, 20.0, 8.0, 15.0, 12.0, 15.0, 20.0, 6.0].map(|seconds| Process::new(rng, seconds));
    let mut frames = Vec::new();
    let mut last = None;
    for seconds in times(rng) {
        let gap = last.map_or(0.0, |last| seconds - last);
        last = Some(seconds);
        let mut at = |process: &mut Process| process.after(rng, gap);
        let (light_now, drift) = (at(&mut lit), (at(&mut across), at(&mut up)));
        let growth = (0.4 * at(&mut size)).exp();
        let glare_from = if light == Light::Infrared { 1.2 } else { 1.8 };
        frames.push(FramePlan {
            seconds,
            present: at(&mut here) < 1.05,
            place: (base_place.0 + 0.3 * drift.0, base_place.1 + 0.1 * drift.1),
            size: base_size * growth,
            growth,
            narrowing: 1.0 - 0.55 * (at(&mut aside) - 0.4).clamp(0.0, 1.0),
            turned: mirrored ^ (at(&mut turn) > 1.0),
            tilt: 5.0 * at(&mut tilt),
            drift,
            blur: (14.0 * (at(&mut blur) + base_blur - 0.4).max(0.0)) as f32,
            cover: 0.5 * (at(&mut cover) + base_cover - 0.4).max(0.0),
            cover_place: at(&mut cover_place),
            dark: (base_dark + 0.8 * light_now).max(0.0) as f32,
            glare: (1.2 * (-light_now - glare_from).max(0.0)) as f32,
            defocus: (1.6 * (base_focus + 2.0 * (at(&mut focus) - 0.7).max(0.0))) as f32,
            shake: (0.01 * normal(rng), 0.01 * normal(rng)),
        });
    }
    if frames.iter().all(|frame| !frame.present) {
        let lucky = rng.random_range(0..frames.len());
        frames[lucky].present = true;
    }
    Plan {
        light,
        angle: rng.random_range(0.0..std::f32::consts::PI),
        quality: rng.random_range(35..92),
        zoom: rng.random_range(0.6..1.0),
        mirrored,
        frames,
    }
}

/// One number from the standard normal distribution (Box and Muller).
pub fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

/// Seconds of the frames that the camera took, the first at 0.
fn times(rng: &mut ChaCha8Rng) -> Vec<f64> {
    let planned = rng.random_range(FRAMES.0 + 1..FRAMES.1 + 2);
    let mut now = 0.0;
    let mut all = vec![0.0];
    for _ in 1..planned {
        now += rng.random_range(GAP_SECONDS.0.ln()..GAP_SECONDS.1.ln()).exp();
        all.push(now);
    }
    let taken: Vec<f64> = all.iter().copied().filter(|_| !rng.random_bool(MISSED)).collect();
    let mut kept = if taken.len() < FRAMES.0 { all[..FRAMES.0].to_vec() } else { taken };
    kept.truncate(FRAMES.1);
    let start = kept[0];
    kept.iter().map(|seconds| seconds - start).collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_burst() {
        let burst = |seed| format!("{:?}", plan(&mut ChaCha8Rng::seed_from_u64(seed)));
        assert_eq!(burst(7), burst(7));
        assert_ne!(burst(7), burst(8));
    }

    #[test]
    fn bursts_are_as_promised() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for _ in 0..500 {
            let plan = plan(&mut rng);
            assert!((FRAMES.0..=FRAMES.1).contains(&plan.frames.len()));
            assert!(plan.frames.iter().any(|frame| frame.present));
            assert!(plan.frames.windows(2).all(|pair| pair[1].seconds - pair[0].seconds >= GAP_SECONDS.0 - 1e-9));
        }
    }

    #[test]
    fn close_frames_are_alike_and_distant_ones_are_not() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut correlation = |gap: f64| {
            let products = (0..4000).map(|_| {
                let mut process = Process::new(&mut rng, 8.0);
                process.value * process.after(&mut rng, gap)
            });
            products.sum::<f64>() / 4000.0
        };
        assert!(correlation(0.3) > 0.85);
        assert!(correlation(60.0).abs() < 0.1);
    }
}
