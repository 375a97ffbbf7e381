/* Batch norm, (leaky) ReLU and k x k max-pool as one block: its four maps, for T tasks.
 *
 * z [N, H, W, C] is the input of batch norm, C contiguous; the pooled grid is h = H / k, w = W / k
 * (k = 1: no pool), edges that no window covers count in the statistics alone. With
 * xh = (z - mu) inv and y = gamma xh + beta the output is a = y > 0 ? y : slope y at the position
 * of each window where y is largest. Every full-size tensor of the backward maps is a per-channel
 * affine function of z (and of its tangent) plus a scatter of pooled values, so that each map reads
 * and writes every full-size tensor once. Compiled for REAL = float and double.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  int64_t T, N, H, W, C, k;
  double eps, slope;
} Shape;

#define FOR(i, n) for (int64_t i = 0; i < (n); i++)

/* sums[c] += the row's float sums, in double: W terms at most are added up in REAL. */
static void flush(double* restrict sums, REAL* restrict row, int64_t C) {
  FOR(c, C) sums[c] += row[c];
  memset(row, 0, C * sizeof(REAL));
}

/* Adds up a line [W, C]: row += line - shift, row2 += (line - shift) (other - shift2), where
    other is
 * the line itself or another one. Channels go in groups that stay in registers. */
enum { GROUP = 16 };
static void add_up(const REAL* restrict line, const REAL* restrict shift,
                   const REAL* restrict other, const REAL* restrict shift2, int64_t W, int64_t C,
                   REAL* restrict row, REAL* restrict row2) {
  int64_t c0 = 0;
  for (; c0 + GROUP <= C; c0 += GROUP) {
    REAL one[GROUP] = {0}, two[GROUP] = {0};
    FOR(j, W) {
      const REAL* restrict p = line + j * C + c0, * restrict q = other + j * C + c0;
      FOR(c, GROUP) {
        const REAL v = p[c] - shift[c0 + c];
        one[c] += v;
        two[c] += v * (q[c] - shift2[c0 + c]);
      }
    }
    FOR(c, GROUP) {
      row[c0 + c] += one[c];
      row2[c0 + c] += two[c];
    }
  }
  FOR(j, W) for (int64_t c = c0; c < C; c++) {
    const REAL v = line[j * C + c] - shift[c];
    row[c] += v;
    row2[c] += v * (other[j * C + c] - shift2[c]);
  }
}

/* The largest of up * z over a window whose first entry is at z; ties go to the first. */
static void choose(const REAL* restrict z, const REAL* restrict up, int64_t W, int64_t C, int64_t k,
                   REAL* restrict best, int32_t* restrict which) {
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
  for (int32_t q = 1; q < k * k; q++) {
    const REAL* restrict here = z + ((q / k) * W + q % k) * C;
    FOR(c, C) {
      const int better = up[c] * here[c] > up[c] * best[c];
      best[c] = better ? here[c] : best[c];
      which[c] = better ? q : which[c];
    }
  }
}

/* The entry of a window that `which` names. */
static void take(const REAL* restrict z, int64_t W, int64_t C, int64_t k,
                 const int32_t* restrict which, REAL* restrict taken) {
  if (k == 2) {
    const REAL* restrict b = z + C, * restrict d = z + W * C, * restrict e = z + W * C + C;
    FOR(c, C) {
      const REAL top = which[c] == 1 ? b[c] : z[c], low = which[c] == 3 ? e[c] : d[c];
      taken[c] = which[c] > 1 ? low : top;
    }
    return;
  }
  FOR(c, C) taken[c] = z[c];
  for (int32_t q = 1; q < k * k; q++) {
    const REAL* restrict here = z + ((q / k) * W + q % k) * C;
    FOR(c, C) taken[c] = which[c] == q ? here[c] : taken[c];
  }
}

/* Per-channel work space of C doubles (n of them) and C REALs (m of them), zeroed. */
static void* space(int64_t C, int n, int m) {
  return calloc(1, C * (n * sizeof(double) + m * sizeof(REAL)));
}

/* All return 0, or 1 when there is no memory. */
static int block_forward_of_one(const Shape* s, const REAL* restrict z, const REAL* restrict gamma,
                                const REAL* restrict beta, REAL* restrict a, REAL* restrict xh,
                                int32_t* restrict arg, REAL* restrict mu, REAL* restrict inv) {
  const int64_t N = s->N, H = s->H, W = s->W, C = s->C, k = s->k, h = H / k, w = W / k;
  double *sum = space(C, 2, 3), *square = sum + C;
  if (!sum) return 1;
  REAL *row = (REAL*)(square + C), *row2 = row + C, *up = row2 + C;
  /* A negative gamma makes the smallest z the largest y; under gamma = 0 all y tie: the first. */
  FOR(c, C) up[c] = gamma[c] < 0 ? -1 : gamma[c] > 0 ? 1 : 0;
  FOR(n, N) {
    const REAL* image = z + n * H * W * C;
    FOR(i, H) { /* shifted by the first value: no cancellation */
      const REAL* line = image + i * W * C;
      add_up(line, z, line, z, W, C, row, row2);
      flush(sum, row, C);
      flush(square, row2, C);
    }
    FOR(i, h) FOR(j, w) {
      const int64_t at = ((n * h + i) * w + j) * C;
      choose(image + (i * k * W + j * k) * C, up, W, C, k, xh + at, arg + at);
    }
  }
  const double n = (double)N * H * W;
  FOR(c, C) {
    const double mean = sum[c] / n;
    const double variance = square[c] / n - mean * mean;
    mu[c] = (REAL)(z[c] + mean);
    inv[c] = (REAL)(1 / sqrt((variance > 0 || isnan(variance) ? variance : 0) + s->eps));
  }
  const REAL slope = (REAL)s->slope;
  FOR(p, N * h * w) {
    REAL* restrict x = xh + p * C, * restrict out = a + p * C;
    FOR(c, C) {
      x[c] = (x[c] - mu[c]) * inv[c];
      const REAL y = gamma[c] * x[c] + beta[c];
      out[c] = y > 0 ? y : slope * y;
    }
  }
  free(sum);
  return 0;
}

/* gz = scatter(s gp) + al (z - mu) + de on the full grid, or with a tangent:
 * scatter(pooled) + al (tz - tmu) + tal (z - mu) + de. tz is NULL without one. */
static void spread(const Shape* s, const REAL* restrict z, const REAL* restrict tz,
                   const REAL* restrict pooled, const int32_t* restrict arg,
                   const REAL* restrict mu, const REAL* restrict tmu, const REAL* restrict al,
                   const REAL* restrict tal, const REAL* restrict de, REAL* restrict out) {
  const int64_t N = s->N, H = s->H, W = s->W, C = s->C, k = s->k, h = H / k, w = W / k;
  FOR(n, N) FOR(i, H) FOR(j, W) {
    const int64_t at = ((n * H + i) * W + j) * C;
    const REAL* restrict here = z + at;
    REAL* restrict to = out + at;
    const int64_t pi = i / k, pj = j / k;
    const int inside = pi < h && pj < w;
    const int64_t p = inside ? ((n * h + pi) * w + pj) * C : 0;
    const int32_t q = (int32_t)((i - pi * k) * k + (j - pj * k));
    const REAL* restrict value = pooled + p;
    const int32_t* restrict which = arg + p;
    if (tz) {
      const REAL* restrict there = tz + at;
      if (inside)
        FOR(c, C)
        to[c] = al[c] * (there[c] - tmu[c]) + tal[c] * (here[c] - mu[c]) + de[c] +
                (which[c] == q ? value[c] : 0);
      else
        FOR(c, C) to[c] = al[c] * (there[c] - tmu[c]) + tal[c] * (here[c] - mu[c]) + de[c];
    } else if (inside) {
      FOR(c, C) to[c] = al[c] * (here[c] - mu[c]) + de[c] + (which[c] == q ? value[c] : 0);
    } else {
      FOR(c, C) to[c] = al[c] * (here[c] - mu[c]) + de[c];
    }
  }
}

static int block_backward_of_one(const Shape* s, const REAL* restrict z, const REAL* restrict gamma,
                                 const REAL* restrict a, const REAL* restrict xh,
                                 const int32_t* restrict arg, const REAL* restrict mu,
                                 const REAL* restrict inv, const REAL* restrict ga,
                                 REAL* restrict gz, REAL* restrict gp, REAL* restrict ggamma,
                                 REAL* restrict gbeta) {
  const int64_t C = s->C, w = s->W / s->k, lines = s->N * (s->H / s->k);
  double *gb = space(C, 2, 5), *gg = gb + C;
  REAL* scattered = malloc((lines * w * C + 1) * sizeof(REAL));
  if (!gb || !scattered) {
    free(gb);
    free(scattered);
    return 1;
  }
  REAL *row = (REAL*)(gg + C), *row2 = row + C, *al = row2 + C, *de = al + C, *sc = de + C;
  const REAL slope = (REAL)s->slope;
  FOR(c, C) sc[c] = gamma[c] * inv[c];
  FOR(l, lines) {
    FOR(j, w) {
      const int64_t at = (l * w + j) * C;
      FOR(c, C) {
        const REAL g = ga[at + c] * (a[at + c] > 0 ? 1 : slope);
        gp[at + c] = g;
        scattered[at + c] = sc[c] * g;
        row[c] += g;
        row2[c] += g * xh[at + c];
      }
    }
    flush(gb, row, C);
    flush(gg, row2, C);
  }
  const double n = (double)s->N * s->H * s->W;
  FOR(c, C) {
    gbeta[c] = (REAL)gb[c];
    ggamma[c] = (REAL)gg[c];
    al[c] = (REAL)(-sc[c] * inv[c] * gg[c] / n);
    de[c] = (REAL)(-sc[c] * gb[c] / n);
  }
  spread(s, z, NULL, scattered, arg, mu, NULL, al, NULL, de, gz);
  free(scattered);
  free(gb);
  return 0;
}

/* tgamma, tbeta: NULL where they do not vary. */
static int block_tangent_of_one(const Shape* s, const REAL* restrict z, const REAL* restrict gamma,
                                const REAL* restrict a, const REAL* restrict xh,
                                const int32_t* restrict arg, const REAL* restrict mu,
                                const REAL* restrict inv, const REAL* restrict tz,
                                const REAL* restrict tgamma, const REAL* restrict tbeta,
                                REAL* restrict ta, REAL* restrict txh, REAL* restrict tmu,
                                REAL* restrict tinv) {
  const int64_t N = s->N, H = s->H, W = s->W, C = s->C, k = s->k, h = H / k, w = W / k;
  double *sum = space(C, 2, 6), *product = sum + C;
  if (!sum) return 1;
  REAL *row = (REAL*)(product + C), *row2 = row + C, *shrink = row2 + C, *tg = shrink + C,
       *tb = tg + C, *none = tb + C;
  FOR(n, N) {
    const REAL *image = tz + n * H * W * C, *values = z + n * H * W * C;
    FOR(i, H) {
      add_up(image + i * W * C, none, values + i * W * C, mu, W, C, row, row2);
      flush(sum, row, C);
      flush(product, row2, C);
    }
    FOR(i, h) FOR(j, w) {
      const int64_t at = ((n * h + i) * w + j) * C;
      take(image + (i * k * W + j * k) * C, W, C, k, arg + at, txh + at);
    }
  }
  const double n = (double)N * H * W;
  FOR(c, C) {
    const double cov = inv[c] * product[c] / n; /* mean of c(tz) xh */
    tmu[c] = (REAL)(sum[c] / n);
    tinv[c] = (REAL)(-(double)inv[c] * inv[c] * cov);
    shrink[c] = (REAL)(inv[c] * cov);
    tg[c] = tgamma ? tgamma[c] : 0;
    tb[c] = tbeta ? tbeta[c] : 0;
  }
  const REAL slope = (REAL)s->slope;
  FOR(p, N * h * w) {
    const int64_t at = p * C;
    FOR(c, C) {
      const REAL t = inv[c] * (txh[at + c] - tmu[c]) - xh[at + c] * shrink[c];
      txh[at + c] = t;
      const REAL ty = tg[c] * xh[at + c] + gamma[c] * t + tb[c];
      ta[at + c] = ty * (a[at + c] > 0 ? 1 : slope);
    }
  }
  free(sum);
  return 0;
}

static int block_tangent_backward_of_one(
    const Shape* s, const REAL* restrict z, const REAL* restrict gamma, const REAL* restrict a,
    const REAL* restrict xh, const int32_t* restrict arg, const REAL* restrict mu,
    const REAL* restrict inv, const REAL* restrict gp, const REAL* restrict ggamma,
    const REAL* restrict gbeta, const REAL* restrict tz, const REAL* restrict txh,
    const REAL* restrict tmu, const REAL* restrict tinv, const REAL* restrict tgamma,
    const REAL* restrict tga, REAL* restrict tgz, REAL* restrict tggamma, REAL* restrict tgbeta) {
  const int64_t C = s->C, w = s->W / s->k, lines = s->N * (s->H / s->k);
  double *tgb = space(C, 2, 7), *tgg = tgb + C;
  REAL* scattered = malloc((lines * w * C + 1) * sizeof(REAL));
  if (!tgb || !scattered) {
    free(tgb);
    free(scattered);
    return 1;
  }
  REAL *row = (REAL*)(tgg + C), *row2 = row + C, *al = row2 + C, *tal = al + C, *tde = tal + C,
       *sc = tde + C, *tsc = sc + C;
  const REAL slope = (REAL)s->slope;
  FOR(c, C) {
    sc[c] = gamma[c] * inv[c];
    tsc[c] = (tgamma ? tgamma[c] : 0) * inv[c] + gamma[c] * tinv[c];
  }
  FOR(l, lines) {
    FOR(j, w) {
      const int64_t at = (l * w + j) * C;
      FOR(c, C) {
        const REAL t = tga[at + c] * (a[at + c] > 0 ? 1 : slope);
        scattered[at + c] = tsc[c] * gp[at + c] + sc[c] * t;
        row[c] += t;
        row2[c] += t * xh[at + c] + gp[at + c] * txh[at + c];
      }
    }
    flush(tgb, row, C);
    flush(tgg, row2, C);
  }
  const double n = (double)s->N * s->H * s->W;
  FOR(c, C) {
    const double gg = ggamma[c], gb = gbeta[c];
    tgbeta[c] = (REAL)tgb[c];
    tggamma[c] = (REAL)tgg[c];
    al[c] = (REAL)(-sc[c] * inv[c] * gg / n);
    tal[c] = (REAL)(-(tsc[c] * inv[c] * gg + sc[c] * tinv[c] * gg + sc[c] * inv[c] * tgg[c]) / n);
    tde[c] = (REAL)(-(tsc[c] * gb + sc[c] * tgb[c]) / n);
  }
  spread(s, z, tz, scattered, arg, mu, tmu, al, tal, tde, tgz);
  free(scattered);
  free(tgb);
  return 0;
}

/* The same for T tasks, one after the other in memory. */
#define SIZES(s)                                          \
  const int64_t full = (s)->N * (s)->H * (s)->W * (s)->C, \
                pooled = (s)->N * ((s)->H / (s)->k) * ((s)->W / (s)->k) * (s)->C

int block_forward(const Shape* s, const REAL* z, const REAL* gamma, const REAL* beta, REAL* a,
                  REAL* xh, int32_t* arg, REAL* mu, REAL* inv) {
  SIZES(s);
  FOR(t, s->T)
  if (block_forward_of_one(s, z + t * full, gamma + t * s->C, beta + t * s->C, a + t * pooled,
                           xh + t * pooled, arg + t * pooled, mu + t * s->C,
                           inv + t * s->C)) return 1;
  return 0;
}

int block_backward(const Shape* s, const REAL* z, const REAL* gamma, const REAL* a, const REAL* xh,
                   const int32_t* arg, const REAL* mu, const REAL* inv, const REAL* ga, REAL* gz,
                   REAL* gp, REAL* ggamma, REAL* gbeta) {
  SIZES(s);
  FOR(t, s->T)
  if (block_backward_of_one(s, z + t * full, gamma + t * s->C, a + t * pooled, xh + t * pooled,
                            arg + t * pooled, mu + t * s->C, inv + t * s->C, ga + t * pooled,
                            gz + t * full, gp + t * pooled, ggamma + t * s->C,
                            gbeta + t * s->C)) return 1;
  return 0;
}

int block_tangent(const Shape* s, const REAL* z, const REAL* gamma, const REAL* a, const REAL* xh,
                  const int32_t* arg, const REAL* mu, const REAL* inv, const REAL* tz,
                  const REAL* tgamma, const REAL* tbeta, REAL* ta, REAL* txh, REAL* tmu,
                  REAL* tinv) {
  SIZES(s);
  FOR(t, s->T)
  if (block_tangent_of_one(s, z + t * full, gamma + t * s->C, a + t * pooled, xh + t * pooled,
                           arg + t * pooled, mu + t * s->C, inv + t * s->C, tz + t * full,
                           tgamma ? tgamma + t * s->C : NULL, tbeta ? tbeta + t * s->C : NULL,
                           ta + t * pooled, txh + t * pooled, tmu + t * s->C,
                           tinv + t * s->C)) return 1;
  return 0;
}

int block_tangent_backward(const Shape* s, const REAL* z, const REAL* gamma, const REAL* a,
                           const REAL* xh, const int32_t* arg, const REAL* mu, const REAL* inv,
                           const REAL* gp, const REAL* ggamma, const REAL* gbeta, const REAL* tz,
                           const REAL* txh, const REAL* tmu, const REAL* tinv, const REAL* tgamma,
                           const REAL* tga, REAL* tgz, REAL* tggamma, REAL* tgbeta) {
  SIZES(s);
  FOR(t, s->T)
  if (block_tangent_backward_of_one(
          s, z + t * full, gamma + t * s->C, a + t * pooled, xh + t * pooled, arg + t * pooled,
          mu + t * s->C, inv + t * s->C, gp + t * pooled, ggamma + t * s->C, gbeta + t * s->C,
          tz + t * full, txh + t * pooled, tmu + t * s->C, tinv + t * s->C,
          tgamma ? tgamma + t * s->C : NULL, tga + t * pooled, tgz + t * full, tggamma + t * s->C,
          tgbeta + t * s->C)) return 1;
  return 0;
}
