/* Convolution, batch norm, (leaky) ReLU and k x k max-pool as one block: its four maps.
 *
 * z [N, H, W, C] is the input of batch norm: what the convolution of x makes of it, or what the
 * caller gives (I = 0). Edges that no window covers count in the statistics alone. With
 * xh = (z - mu) inv and y = gamma xh + beta the output is a = y > 0 ? y : slope y at the position
 * of each window where y is largest. Every full-size tensor of the backward maps is a per-channel
 * affine function of z (and of its tangent) plus a scatter of pooled values: each map reads or
 * writes z and tz once, row by row while the convolution uses them, and keeps no gradient of z.
 * Every map returns 0, or 1 when there is no memory. */
#include "parts.h"

/* The largest of up * z over a window whose first entry is at z; ties go to the first. */
INLINE void choose(const REAL* restrict z, const REAL* restrict up, int64_t W, int64_t C, int64_t k,
                   REAL* restrict best, uint8_t* restrict which) {
  if (k == 2) {
    const REAL* restrict b = z + C, * restrict d = z + W * C, * restrict e = z + W * C + C;
    FOR(c, C) {
      const REAL u = up[c];
      const int right = u * b[c] > u * z[c], right2 = u * e[c] > u * d[c];
      const REAL top = right ? b[c] : z[c], low = right2 ? e[c] : d[c];
      const int lower = u * low > u * top;
      best[c] = lower ? low : top;
      which[c] = lower ? 2 + right2 : right;
    }
    return;
  }
  FOR(c, C) {
    best[c] = z[c];
    which[c] = 0;
  }
  for (int q = 1; q < k * k; q++) {
    const REAL* restrict here = z + ((q / k) * W + q % k) * C;
    FOR(c, C) {
      const int better = up[c] * here[c] > up[c] * best[c];
      best[c] = better ? here[c] : best[c];
      which[c] = better ? q : which[c];
    }
  }
}

/* The entry of a window that `which` names. */
INLINE void take(const REAL* restrict z, int64_t W, int64_t C, int64_t k,
                 const uint8_t* restrict which, REAL* restrict taken) {
  if (k == 2) {
    const REAL* restrict b = z + C, * restrict d = z + W * C, * restrict e = z + W * C + C;
    CHANNELWISE(c, C) {
      const REAL top = which[c] == 1 ? b[c] : z[c], low = which[c] == 3 ? e[c] : d[c];
      taken[c] = which[c] > 1 ? low : top;
    }
    return;
  }
  CHANNELWISE(c, C) taken[c] = z[c];
  for (int q = 1; q < k * k; q++) {
    const REAL* restrict here = z + ((q / k) * W + q % k) * C;
    CHANNELWISE(c, C) taken[c] = which[c] == q ? here[c] : taken[c];
  }
}

/* Sizes that all phases use; C and k are constants where the compiler knows them. */
#define SIZES                                                                            \
  const Shape* s = c->s;                                                                 \
  const int64_t N = s->N, H = s->H, W = s->W, I = s->I, h = H / k, w = W / k,            \
                t = u / c->parts, part = u % c->parts, first = part * c->size,           \
                last = first + c->size < N ? first + c->size : N,                        \
                padded = I ? (H + 2) * (W + 2) * I : 0, kernel = weight_size(s);         \
  const REAL slope = (REAL)s->slope;                                                     \
  const Tensors d = task(s, *c->d, t);                                                   \
  (void)h, (void)w, (void)padded, (void)kernel, (void)slope, (void)first, (void)last,    \
      (void)W, (void)k

/* forward ------------------------------------------------------------------------------------- */

/* z, its sums (shifted by the part's first value: no cancellation), and the pooled z in xh. */
INLINE void forward_rows_of(const Call* c, int64_t u, REAL* work, const int64_t C, const int64_t k) {
  SIZES;
  REAL *row = work, *row2 = row + C, *up = row2 + C, *image = up + C;
  double *sum = c->sums + u * 2 * C, *square = sum + C;
  const Source from = {image, pack_of(c, 0, t)};
  const REAL* shift = d.z + first * H * W * C;
  /* A negative gamma makes the smallest z the largest y; under gamma = 0 all y tie: the first. */
  FOR(i, C) up[i] = d.gamma[i] < 0 ? -1 : d.gamma[i] > 0 ? 1 : 0;
  for (int64_t n = first; n < last; n++) {
    if (I) pad(d.x + n * H * W * I, H, W, I, image);
    FOR(i, H) {
      REAL* line = d.z + (n * H + i) * W * C;
      if (I) conv_row(&from, 1, i, W, I, C, line);
      add_up(line, shift, line, shift, W, C, row, row2);
      flush(sum, row, C);
      flush(square, row2, C);
      if (i % k == k - 1) FOR(j, w) {
        const int64_t at = ((n * h + i / k) * w + j) * C;
        choose(line - (k - 1) * W * C + j * k * C, up, W, C, k, d.xh + at, d.arg + at);
      }
    }
  }
}

INLINE void forward_pooled_of(const Call* c, int64_t u, REAL* work, const int64_t C,
                              const int64_t k) {
  SIZES;
  (void)work;
  const REAL *restrict mu = d.mu, *restrict inv = d.inv;
  const REAL *restrict gamma = d.gamma, *restrict beta = d.beta;
  for (int64_t p = first * h * w; p < last * h * w; p++) {
    REAL *restrict x = d.xh + p * C, *restrict out = d.a + p * C;
    CHANNELWISE(e, C) {
      x[e] = (x[e] - mu[e]) * inv[e];
      const REAL y = gamma[e] * x[e] + beta[e];
      out[e] = y > 0 ? y : slope * y;
    }
  }
}

/* The statistics of a task from those of its parts, in their order. */
static void statistics(const Call* c, int64_t t) {
  const Shape* s = c->s;
  const int64_t C = s->C, image = s->H * s->W;
  const Tensors d = task(s, *c->d, t);
  FOR(e, C) {
    double mean = 0, squares = 0, count = 0;
    FOR(part, c->parts) {
      const int64_t first = part * c->size;
      const double n = (double)image * ((first + c->size < s->N ? first + c->size : s->N) - first);
      const double* sums = c->sums + (t * c->parts + part) * 2 * C;
      const double away = d.z[first * image * C + e] + sums[e] / n - mean;
      squares += sums[C + e] - sums[e] * sums[e] / n + away * away * count * n / (count + n);
      mean += away * n / (count + n);
      count += n;
    }
    const double variance = squares / count;
    d.mu[e] = (REAL)mean;
    d.inv[e] = (REAL)(1 / sqrt((variance > 0 || isnan(variance) ? variance : 0) + s->eps));
  }
}

/* backward ------------------------------------------------------------------------------------ */

/* Sums over the pooled grid: of gp and gp xh, gp = act'(y) ga; where t, of their tangents. */
INLINE void pooled_sums(const Call* c, int64_t u, REAL* work, const int64_t C, const int64_t k,
                        const int tangent) {
  SIZES;
  REAL *restrict row = work, *restrict row2 = work + C;
  double* sums = c->sums + u * 2 * C;
  for (int64_t l = first * h; l < last * h; l++) {
    FOR(j, w) {
      const int64_t at = (l * w + j) * C;
      const REAL *restrict a = d.a + at, *restrict ga = d.ga + at, *restrict xh = d.xh + at;
      if (tangent) {
        const REAL *restrict tga = d.tga + at, *restrict txh = d.txh + at;
        CHANNELWISE(e, C) {
          const REAL through = a[e] > 0 ? 1 : slope;
          row[e] += tga[e] * through;
          row2[e] += (tga[e] * xh[e] + ga[e] * txh[e]) * through;
        }
      } else {
        CHANNELWISE(e, C) {
          const REAL g = ga[e] * (a[e] > 0 ? 1 : slope);
          row[e] += g;
          row2[e] += g * xh[e];
        }
      }
    }
    flush(sums, row, C);
    flush(sums + C, row2, C);
  }
}

/* gz = scatter(sc gp) + al (z - mu) + de; its tangent is scatter(tsc gp + sc tgp) + al (tz - tmu)
 * + tal (z - mu) + tde. The six coefficients of a channel lie C apart. */
enum { SC, AL, DE, TSC, TAL, TDE, COEFFICIENTS };

/* The two sums of a task over its parts, in their order; the first part takes them. */
static const double* total(const Call* c, int64_t t) {
  const int64_t size = 2 * c->s->C;
  double* sums = c->sums + t * c->parts * size;
  for (int64_t part = 1; part < c->parts; part++) FOR(e, size) sums[e] += sums[part * size + e];
  return sums;
}

INLINE void coefficients_of(const Call* c, int64_t t, const int tangent) {
  const Shape* s = c->s;
  const int64_t C = s->C;
  const Tensors d = task(s, *c->d, t);
  const double count = (double)s->N * s->H * s->W;
  const double* sums = total(c, t);
  REAL* f = c->affine + t * COEFFICIENTS * C;
  FOR(e, C) {
    const REAL inv = d.inv[e], sc = d.gamma[e] * inv;
    if (!tangent) {
      d.gbeta[e] = (REAL)sums[e];
      d.ggamma[e] = (REAL)sums[C + e];
    }
    const double gg = tangent ? d.ggamma[e] : sums[C + e], gb = tangent ? d.gbeta[e] : sums[e];
    f[SC * C + e] = sc;
    f[AL * C + e] = (REAL)(-sc * inv * gg / count);
    f[DE * C + e] = (REAL)(-sc * gb / count);
    if (!tangent) continue;
    const double tgb = sums[e], tgg = sums[C + e];
    const REAL tinv = d.tinv[e], tsc = (d.tgamma ? d.tgamma[e] : 0) * inv + d.gamma[e] * tinv;
    d.tgbeta[e] = (REAL)tgb;
    d.tggamma[e] = (REAL)tgg;
    f[TSC * C + e] = tsc;
    f[TAL * C + e] = (REAL)(-(tsc * inv * gg + sc * tinv * gg + sc * inv * tgg) / count);
    f[TDE * C + e] = (REAL)(-(tsc * gb + sc * tgb) / count);
  }
}

static void coefficients(const Call* c, int64_t t) { coefficients_of(c, t, 0); }
static void tangent_coefficients(const Call* c, int64_t t) { coefficients_of(c, t, 1); }

/* The pooled values that the rows of window row i scatter: line [w, C] of gz, tline of tgz. */
INLINE void pooled_line(const Tensors* d, const REAL* f, int64_t at, int64_t w, int64_t C,
                        REAL slope, REAL* restrict line, REAL* restrict tline) {
  const REAL *restrict sc = f + SC * C, *restrict tsc = f + TSC * C;
  FOR(j, w) {
    const REAL *restrict a = d->a + at + j * C, *restrict ga = d->ga + at + j * C;
    if (line) CHANNELWISE(e, C) line[j * C + e] = sc[e] * ga[e] * (a[e] > 0 ? 1 : slope);
    if (tline) {
      const REAL* restrict tga = d->tga + at + j * C;
      CHANNELWISE(e, C)
      tline[j * C + e] = (tsc[e] * ga[e] + sc[e] * tga[e]) * (a[e] > 0 ? 1 : slope);
    }
  }
}

/* Row i of image n of gz, or of tgz, at out [W, C]. */
INLINE void spread(const Tensors* d, const REAL* f, const int64_t n, int64_t i, int64_t H, int64_t W,
                   const int64_t C, const int64_t k, const int tangent, const REAL* restrict line,
                   REAL* restrict out) {
  const int64_t h = H / k, w = W / k;
  const REAL *restrict al = f + AL * C, *restrict tal = f + TAL * C;
  const REAL* restrict de = f + (tangent ? TDE : DE) * C;
  const REAL *restrict mu = d->mu, *restrict tmu = d->tmu;
  FOR(j, W) {
    const int64_t at = ((n * H + i) * W + j) * C;
    const REAL* restrict here = d->z + at;
    REAL* restrict to = out + j * C;
    if (tangent) {
      const REAL* restrict there = d->tz + at;
      CHANNELWISE(e, C)
      to[e] = al[e] * (there[e] - tmu[e]) + tal[e] * (here[e] - mu[e]) + de[e];
    } else {
      CHANNELWISE(e, C) to[e] = al[e] * (here[e] - mu[e]) + de[e];
    }
    if (i / k < h && j / k < w) {
      const uint8_t q = (uint8_t)((i % k) * k + j % k);
      const uint8_t* restrict which = d->arg + ((n * h + i / k) * w + j / k) * C;
      const REAL* restrict value = line + (j / k) * C;
      CHANNELWISE(e, C) to[e] += which[e] == q ? value[e] : 0;
    }
  }
}

/* Rows that go through the cache together: of gz, for the gradient of the weights. */
static int64_t rows_together(const Shape* s) {
  const int64_t fit = 16384 / (int64_t)(s->W * s->C * sizeof(REAL));
  return fit < 1 ? 1 : fit < s->H ? fit : s->H;
}

/* Space of a padded gradient: a whole image where the input's gradient is wanted too. */
static int64_t grid_size(const Shape* s, int whole) {
  return s->I ? ((whole ? s->H : rows_together(s)) + 2) * (s->W + 2) * s->C : 0;
}

/* gz of the part's images, row by row: to gx and gw, or where tangent both to tgx and tgw, the
 * tangents of the same: x * tgz + tx * gz and tgz * w + gz * tw. Without a convolution the rows
 * are what is asked for. */
INLINE void down(const Call* c, int64_t u, REAL* work, const int64_t C, const int64_t k,
                 const int tangent) {
  SIZES;
  REAL *gx = tangent ? d.tgx : d.gx, *rows_out = tangent ? d.tgz : d.gz;
  const int both = tangent && I && (d.tx || (gx && d.tw)); /* gz itself is needed */
  const int64_t pitch = (W + 2) * C, group = rows_together(s), grid = grid_size(s, gx != NULL);
  REAL *line = work, *tline = line + w * C, *sums = tline + w * C, *image = sums + kernel,
       *timage = image + padded, *grads = timage + padded, *tgrads = grads + grid;
  REAL *all = c->gw + u * kernel, *f = c->affine + t * COEFFICIENTS * C;
  const Source sources[2] = {{tangent ? tgrads : grads, pack_of(c, 0, t)},
                             {grads, pack_of(c, 1, t)}};
  int64_t pixels = 0;
  if (!tangent) tline = NULL;
  for (int64_t n = first; n < last; n++) {
    if (I) pad(d.x + n * H * W * I, H, W, I, image);
    if (tangent && I && d.tx) pad(d.tx + n * H * W * I, H, W, I, timage);
    for (int64_t from = 0; from < H; from += group) {
      const int64_t rows = from + group > H ? H - from : group;
      /* Where the group begins: in its place of the image, or always at the top. */
      const int64_t at = ((gx ? from : 0) + 1) * pitch + C;
      for (int64_t i = from; i < from + rows; i++) {
        if (i % k == 0 && i / k < h)
          pooled_line(&d, f, (n * h + i / k) * w * C, w, C, slope,
                      !tangent || both ? line : NULL, tline);
        if (!I) {
          spread(&d, f, n, i, H, W, C, k, tangent, tangent ? tline : line,
                 rows_out + (n * H + i) * W * C);
          continue;
        }
        const int64_t here = at + (i - from) * pitch;
        if (!tangent || both) spread(&d, f, n, i, H, W, C, k, 0, line, grads + here);
        if (tangent) spread(&d, f, n, i, H, W, C, k, 1, tline, tgrads + here);
      }
      if (!I) continue;
      add_weight(image, from, rows, W, I, (tangent ? tgrads : grads) + at, pitch, C, sums);
      if (tangent && d.tx) add_weight(timage, from, rows, W, I, grads + at, pitch, C, sums);
      pixels += rows * W;
      if (pixels >= FLUSH) {
        empty(sums, all, kernel);
        pixels = 0;
      }
    }
    if (gx) FOR(i, H)
      conv_row(sources, tangent && d.tw ? 2 : 1, i, W, C, I, gx + (n * H + i) * W * I);
  }
  if (I) empty(sums, all, kernel);
}

/* The gradient of a task's weights from those of its parts, in their order. */
static void weights(const Call* c, int64_t t) {
  const Shape* s = c->s;
  if (!s->I) return;
  const int64_t kernel = weight_size(s);
  const Tensors d = task(s, *c->d, t);
  REAL* sum = c->gw + t * c->parts * kernel;
  for (int64_t part = 1; part < c->parts; part++) {
    const REAL* more = sum + part * kernel;
    CHANNELWISE(e, kernel) sum[e] += more[e];
  }
  unpack(sum, s->C, s->I, d.tgw ? d.tgw : d.gw);
}

/* tangent ------------------------------------------------------------------------------------- */

INLINE void tangent_rows_of(const Call* c, int64_t u, REAL* work, const int64_t C, const int64_t k) {
  SIZES;
  REAL *row = work, *row2 = row + C, *none = row2 + C, *image = none + C, *timage = image + padded;
  double* sums = c->sums + u * 2 * C;
  Source from[2];
  int sources = 0;
  if (I && d.tw) from[sources++] = (Source){image, pack_of(c, 1, t)};
  if (I && d.tx) from[sources++] = (Source){timage, pack_of(c, 0, t)};
  for (int64_t n = first; n < last; n++) {
    if (I && d.tw) pad(d.x + n * H * W * I, H, W, I, image);
    if (I && d.tx) pad(d.tx + n * H * W * I, H, W, I, timage);
    FOR(i, H) {
      REAL* line = d.tz + (n * H + i) * W * C;
      if (I) conv_row(from, sources, i, W, I, C, line);
      add_up(line, none, d.z + (n * H + i) * W * C, d.mu, W, C, row, row2);
      flush(sums, row, C);
      flush(sums + C, row2, C);
      if (i % k == k - 1) FOR(j, w) {
        const int64_t at = ((n * h + i / k) * w + j) * C;
        take(line - (k - 1) * W * C + j * k * C, W, C, k, d.arg + at, d.txh + at);
      }
    }
  }
}

/* tmu, tinv, and inv cov in the task's first coefficients; cov = mean of c(tz) xh. */
static void tangent_statistics(const Call* c, int64_t t) {
  const Shape* s = c->s;
  const int64_t C = s->C;
  const Tensors d = task(s, *c->d, t);
  const double count = (double)s->N * s->H * s->W;
  const double* sums = total(c, t);
  FOR(e, C) {
    const double cov = d.inv[e] * sums[C + e] / count;
    d.tmu[e] = (REAL)(sums[e] / count);
    d.tinv[e] = (REAL)(-(double)d.inv[e] * d.inv[e] * cov);
    c->affine[t * COEFFICIENTS * C + e] = (REAL)(d.inv[e] * cov);
  }
}

/* tgamma, tbeta: NULL where they do not vary. */
INLINE void tangent_pooled_of(const Call* c, int64_t u, REAL* work, const int64_t C,
                              const int64_t k) {
  SIZES;
  REAL *restrict tg = work, *restrict tb = work + C;
  FOR(e, C) tg[e] = d.tgamma ? d.tgamma[e] : 0;
  FOR(e, C) tb[e] = d.tbeta ? d.tbeta[e] : 0;
  const REAL *restrict inv = d.inv, *restrict tmu = d.tmu, *restrict gamma = d.gamma;
  const REAL* restrict shrink = c->affine + t * COEFFICIENTS * C;
  for (int64_t p = first * h * w; p < last * h * w; p++) {
    REAL *restrict tx = d.txh + p * C, *restrict ta = d.ta + p * C;
    const REAL *restrict xh = d.xh + p * C, *restrict a = d.a + p * C;
    CHANNELWISE(e, C) {
      tx[e] = inv[e] * (tx[e] - tmu[e]) - xh[e] * shrink[e];
      const REAL ty = tg[e] * xh[e] + gamma[e] * tx[e] + tb[e];
      ta[e] = ty * (a[e] > 0 ? 1 : slope);
    }
  }
}

INLINE void backward_sums_of(const Call* c, int64_t u, REAL* work, const int64_t C,
                             const int64_t k) {
  pooled_sums(c, u, work, C, k, 0);
}
INLINE void tangent_sums_of(const Call* c, int64_t u, REAL* work, const int64_t C, const int64_t k) {
  pooled_sums(c, u, work, C, k, 1);
}
INLINE void backward_down_of(const Call* c, int64_t u, REAL* work, const int64_t C,
                             const int64_t k) {
  down(c, u, work, C, k, 0);
}
INLINE void tangent_down_of(const Call* c, int64_t u, REAL* work, const int64_t C, const int64_t k) {
  down(c, u, work, C, k, 1);
}

/* Sizes that few-shot networks have are constants. */
#define PHASE(name)                                                  \
  static void name(const Call* c, int64_t u, REAL* work) {           \
    const Shape* s = c->s;                                           \
    if (s->C == 32 && s->k == 2)                                     \
      name##_of(c, u, work, 32, 2);                                  \
    else if (s->C == 64 && s->k == 2)                                \
      name##_of(c, u, work, 64, 2);                                  \
    else                                                             \
      name##_of(c, u, work, s->C, s->k);                             \
  }
PHASE(forward_rows)
PHASE(forward_pooled)
PHASE(backward_sums)
PHASE(backward_down)
PHASE(tangent_rows)
PHASE(tangent_pooled)
PHASE(tangent_sums)
PHASE(tangent_down)

int forward(const Shape* s, const Tensors* d) {
  Call c = begin(s, d, 0);
  if (c.sums == NULL) return 1;
  const int64_t padded = s->I ? (s->H + 2) * (s->W + 2) * s->I : 0;
  const Stage stages[] = {{forward_rows, 3 * s->C + padded, statistics, 0},
                          {forward_pooled, 0, NULL, 0}};
  const int failed = run((Work){&c, {{d->w, d->w_step}}, 0, 2, stages});
  end(&c);
  return failed;
}

int tangent(const Shape* s, const Tensors* d) {
  Call c = begin(s, d, 0);
  if (c.sums == NULL) return 1;
  const int64_t padded = s->I ? (s->H + 2) * (s->W + 2) * s->I : 0;
  const Stage stages[] = {{tangent_rows, 3 * s->C + 2 * padded, tangent_statistics, 0},
                          {tangent_pooled, 2 * s->C, NULL, 0}};
  const Packing w = {d->tx ? d->w : NULL, d->w_step}, tw = {d->tw, d->tw_step};
  const int failed = run((Work){&c, {w, tw}, 0, 2, stages});
  end(&c);
  return failed;
}

/* backward, or tangent_backward where t. */
static int both_backward(const Shape* s, const Tensors* d, int t) {
  Call c = begin(s, d, 1);
  if (c.sums == NULL) return 1;
  const REAL* gx = t ? d->tgx : d->gx;
  const int64_t padded = s->I ? (s->H + 2) * (s->W + 2) * s->I : 0;
  const int64_t space = 2 * (s->W / s->k) * s->C + weight_size(s) + 2 * padded +
                        2 * grid_size(s, gx != NULL) + LANES; /* a last pixel is read as a vector */
  const Stage stages[] = {
      {t ? tangent_sums : backward_sums, 2 * s->C, t ? tangent_coefficients : coefficients, 0},
      {t ? tangent_down : backward_down, space, weights, 1}};
  const Packing w = {gx ? d->w : NULL, d->w_step}, tw = {gx && t ? d->tw : NULL, d->tw_step};
  const int failed = run((Work){&c, {w, tw}, 1, 2, stages});
  end(&c);
  return failed;
}

int backward(const Shape* s, const Tensors* d) { return both_backward(s, d, 0); }
int tangent_backward(const Shape* s, const Tensors* d) { return both_backward(s, d, 1); }
