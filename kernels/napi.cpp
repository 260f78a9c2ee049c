// Node's door to the kernels: one wrapper, instantiated by the compiler for every signature in kernels.h. Numbers come in
// as doubles, which hold any address and any size that occurs; callers in src/backend/native guarantee the types.
#include <node_api.h>

#include <initializer_list>
#include <tuple>
#include <utility>

#include "kernels.h"
#include "mapping.h"

namespace {

template <class T>
T from_number(double value) {
  if constexpr (std::is_pointer_v<T>) return (T)(uintptr_t)value;
  else return (T)value;
}

napi_value undefined(napi_env env) {
  napi_value result;
  napi_get_undefined(env, &result);
  return result;
}

template <class Result, class... Args, size_t... I>
napi_value invoke(napi_env env, Result (*kernel)(Args...), const double* values, std::index_sequence<I...>) {
  if constexpr (std::is_void_v<Result>) {
    kernel(from_number<Args>(values[I])...);
    return undefined(env);
  } else {
    napi_value result;
    napi_create_double(env, (double)kernel(from_number<Args>(values[I])...), &result);
    return result;
  }
}

template <class Result, class... Args>
napi_value call(napi_env env, napi_callback_info info, Result (*kernel)(Args...)) {
  constexpr size_t COUNT = sizeof...(Args);
  size_t given = COUNT;
  napi_value arguments[COUNT + 1];
  double values[COUNT + 1];
  napi_get_cb_info(env, info, &given, arguments, nullptr, nullptr);
  for (size_t i = 0; i < COUNT; i++)
    if (i >= given || napi_get_value_double(env, arguments[i], &values[i]) != napi_ok) {
      napi_throw_type_error(env, nullptr, "internal: a kernel argument is missing or not a number");
      return nullptr;
    }
  return invoke(env, kernel, values, std::index_sequence_for<Args...>{});
}

template <auto Kernel>
napi_value wrap(napi_env env, napi_callback_info info) {
  return call(env, info, Kernel);
}

// The memory under an array buffer; null once it is given back.
struct Owned {
  void* block;
};

// Runs when the buffer is gone, which may be long after `release`.
void finalize(napi_env, void*, void* hint) {
  Owned* owned = (Owned*)hint;
  olmoe_release(owned->block);
  delete owned;
}

// allocate(bytes) -> [address, ArrayBuffer, owner] or undefined when there is no memory. The buffer owns the memory.
napi_value allocate(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  double bytes = 0;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  napi_get_value_double(env, argument, &bytes);
  void* block = olmoe_allocate((isize)bytes);
  if (!block) return undefined(env);
  Owned* owned = new Owned{block};
  napi_value buffer, result;
  if (napi_create_external_arraybuffer(env, block, (size_t)bytes, finalize, owned, &buffer) != napi_ok) {
    finalize(env, block, owned);
    return undefined(env);
  }
  napi_create_array_with_length(env, 3, &result);
  napi_set_element(env, result, 1, buffer);
  void* numbers[] = {block, owned};
  for (int i = 0; i < 2; i++) {
    napi_value number;
    napi_create_double(env, (double)(uintptr_t)numbers[i], &number);
    napi_set_element(env, result, (uint32_t)(2 * i), number);
  }
  return result;
}

// release(buffer, owner), once for each block: empties the buffer, so that no view can reach the memory, and gives the
// memory back at once. The buffer's finalizer would do it only when the event loop turns.
napi_value release(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2];
  double owner = 0;
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  napi_get_value_double(env, arguments[1], &owner);
  Owned* owned = from_number<Owned*>(owner);
  void* block = owned->block;
  owned->block = nullptr;
  napi_detach_arraybuffer(env, arguments[0]);
  olmoe_release(block);
  return undefined(env);
}

#ifdef OLMOE_MAPS_FILES
// An array of numbers.
napi_value numbers(napi_env env, std::initializer_list<double> values) {
  napi_value result, number;
  uint32_t index = 0;
  napi_create_array_with_length(env, values.size(), &result);
  for (double value : values) {
    napi_create_double(env, value, &number);
    napi_set_element(env, result, index++, number);
  }
  return result;
}

// mapFile(descriptor, bytes) -> [address, owner], or [errno] where the file can not be mapped.
napi_value map_file(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2];
  double values[2] = {-1, 0};
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  for (size_t i = 0; i < 2; i++) napi_get_value_double(env, arguments[i], &values[i]);
  mapping::Mapping* mapped = mapping::open((int)values[0], (size_t)values[1]);
  if (mapped == nullptr) return numbers(env, {(double)errno});
  return numbers(env, {(double)mapped->begin.load(), (double)(uintptr_t)mapped});
}

mapping::Mapping* mapping_argument(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  double owner = 0;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  napi_get_value_double(env, argument, &owner);
  return from_number<mapping::Mapping*>(owner);
}

// unmapFile(owner), once for each mapFile.
napi_value unmap_file(napi_env env, napi_callback_info info) {
  mapping::release(mapping_argument(env, info));
  return undefined(env);
}

// mappingDamaged(owner) -> whether the file is no longer what was mapped.
napi_value mapping_damaged(napi_env env, napi_callback_info info) {
  napi_value result;
  napi_get_boolean(env, mapping::is_damaged(mapping_argument(env, info)), &result);
  return result;
}
#endif

void define(napi_env env, napi_value exports, const char* name, napi_callback function) {
  napi_value value;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, function, nullptr, &value);
  napi_set_named_property(env, exports, name, value);
}

}  // namespace

NAPI_MODULE_INIT() {
#define OLMOE_DEFINE(name) define(env, exports, "olmoe_" #name, wrap<&olmoe_##name>);
  OLMOE_KERNELS(OLMOE_DEFINE)
#undef OLMOE_DEFINE
  define(env, exports, "allocate", allocate);
  define(env, exports, "release", release);
#ifdef OLMOE_MAPS_FILES
  define(env, exports, "mapFile", map_file);
  define(env, exports, "unmapFile", unmap_file);
  define(env, exports, "mappingDamaged", mapping_damaged);
#endif
  return exports;
}
