// The processor's features as a library of its own, which is compiled in a second: they say which build of the kernels to
// compile.
#include <node_api.h>

#include "features.h"

NAPI_MODULE_INIT() {
  (void)exports;
  napi_value features;
  napi_create_double(env, (double)olmoe_cpu_features(), &features);
  return features;
}
